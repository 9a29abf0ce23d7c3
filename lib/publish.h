/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the process publishes of itself (published.h), and the list of all
 * budgets, pools and caches, which bring their figures with them: so this
 * stands below them all.
 *
 * While at least one pool wants it, the keeper writes the page once a second;
 * else there is no file, and nothing is done but for the list.  Statistics are
 * lock-free, so nobody waits for it but the keeper's other work.
 *
 * The file goes when the last such pool does, or the process exits; what a
 * killed process leaves can be told from its start.  A child of a fork gives
 * its copy of the mapping back and has a file of its own within a second.
 * What is on the list is there under the keeper's lock; all here but refresh
 * and forked take it, and so block.
 */
#ifndef SEG_PUBLISH_H
#define SEG_PUBLISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "published.h"

struct publish_item {
	struct publish_item *next;
	const struct publish_item *budget;	/* or NULL; outlives it */
	/* The structs of its kind, of so many bytes; false: not now. */
	bool (*fill)(struct publish_item *item, void *to);
	size_t bytes;
	enum published_kind kind;
	uint64_t id;			/* publish_add() sets it */
	char name[PUBLISHED_NAME_BYTES];
};

/* NULL, or not too long. */
bool publish_name_is_valid(const char *name);

/* name NULL: the one that is usual. */
void publish_set_name(struct publish_item *item, const char *name,
		      const char *usual);

void publish_add(struct publish_item *item);
void publish_remove(struct publish_item *item);

/* A pool wants it, or does no more.  What start returns is a negative errno if
 * there is no file yet; the keeper goes on trying. */
int publish_start(void);
void publish_stop(void);

/* The keeper's: writes if it is time; when to come again, in ns. */
uint64_t publish_refresh(uint64_t now_ns);
void publish_forked(void);

#endif
