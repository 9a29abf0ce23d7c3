/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The limit of a root budget follows that of the process's control group, by a
 * thread of its own: it asks caches to give back, which the keeper, who holds a
 * lock, must not.
 *
 * The limit is the lower of the application's (the ceiling) and a percentage of
 * the group's.  Where more is charged than that, the limit is what is charged,
 * so that nothing is added; unused memory and caches give back, and the thread
 * comes again soon: after a tenth of a second, and not after a whole one.
 * In the child of a fork there is no such thread: the limit stays as it was.
 */
#ifndef SEG_BUDGET_FOLLOW_H
#define SEG_BUDGET_FOLLOW_H

#include <stdint.h>

#include "seg.h"

/*
 * Sets the limit and starts to follow; root as for cgroup_open().  0, also if
 * there are no control groups, and then nothing follows; -ENOMEM; -EAGAIN: no
 * thread can be had.  Blocking, as all here but the looks.
 */
int budget_follow(struct seg_budget *b, const char *root, unsigned percent);
void budget_unfollow(struct seg_budget *b);

/* The thread looks now, and not only at its time. */
void budget_follow_kick(struct seg_budget *b);

/* The application's limit changes; -EBUSY: more than that is charged, and the
 * old one stays. */
int budget_follow_ceiling(struct seg_budget *b, uint64_t limit_bytes);

/* What the control group allows; 0: nothing follows, or it has no limit. */
uint64_t budget_followed(struct seg_budget *b);

#endif
