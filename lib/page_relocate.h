/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The parts of a page move to another node, while the page stays what it is:
 *
 *   relocation_begin()   new segments, on that node, for parts that are not
 *   relocation_copy()    what is in them; and where they will be
 *   page_arrive()        now they are there; by anybody, as often as he likes
 *   relocation_finish()  the page has the new ones, the relocation the old
 *   relocation_end()     releases what the relocation has
 *
 * All but page_arrive() by one thread.  While it copies nobody else may use the
 * page, but for those who read it without a pin; from page_arrive() on the
 * parts that they found are old, and must stay until they have gone.  Between
 * copy and finish it may be given up: then it ends with the new segments.
 */
#ifndef SEG_PAGE_RELOCATE_H
#define SEG_PAGE_RELOCATE_H

#include "page.h"

struct relocation {
	struct seg_page *page;
	uint64_t bytes;			/* of the parts that move */
	struct seg_handle handle[SEG_PAGE_PARTS];	/* zeros: it stays */
	void *from[SEG_PAGE_PARTS];
	struct seg_page *carrier;	/* see relocation_defer(); NULL: none */
};

/* The node of the largest part; -1: it can't be told.  By who keeps the page
 * from being released. */
int page_node(const struct seg_page *page);

/* Takes no pains to get the memory.  False: there is none, or nothing to move.
 * For relocation_defer() it needs an object more. */
bool relocation_begin(struct relocation *m, struct seg_page *page, int node,
		      bool defers);

void relocation_copy(struct relocation *m);
void page_arrive(struct seg_page *page);
void relocation_finish(struct relocation *m);
void relocation_end(struct relocation *m);

/* After a finish, instead of the end: what it has is carried by an object whose
 * work is to be deferred, and which relocation_carried() ends. */
struct seg_page *relocation_defer(struct relocation *m);
void relocation_carried(struct seg_page *carrier);

#endif
