/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/rcu.h in the explorer: RCU by its contract.  A grace period waits for
 * the read sections that were open when it began; a section that begins later
 * sees all that came before the grace period.
 */
#ifndef EXPLORE_RCU_H
#define EXPLORE_RCU_H

#include <stdbool.h>

void rcu_enter(void);
void rcu_leave(void);
bool rcu_inside(void);
void rcu_wait_for_readers(void);

/* The application's; the words that the library counts them in would be all
 * fibers' in one. */
#define rcu_begin() rcu_enter()
#define rcu_end() (rcu_inside() ? rcu_leave() : (void)0)
#define rcu_place() (rcu_inside() ? counter_place() : 0)

static inline void rcu_before_fork(void)
{
}

static inline void rcu_after_fork_parent(void)
{
}

static inline void rcu_after_fork_child(void)
{
}

#endif
