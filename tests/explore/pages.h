/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pages in the explorer: the library's own page.c and page_relocate.c over a
 * pool that hands out each segment once.  A segment is a race-checked cell and
 * a number, which copies take along.  Thread i runs on node i.
 */
#ifndef PAGES_H
#define PAGES_H

#include "explore.h"

struct seg_pool;
struct seg_page;

enum { PAGE_PARTS = 2 };

extern struct seg_pool *pages_pool;
/* What may still be allocated. */
extern unsigned pages_left;

/* Setup: a pool, on a machine of three nodes. */
void pages_open(void);

/* A page on that node; each part has the number. */
struct seg_page *pages_make(int node, uint64_t number);

/* What a reader does, twice; the number. */
uint64_t pages_read(const struct seg_page *page);
/* What who pins it might. */
void pages_write(struct seg_page *page, uint64_t number);

/* Post: all that was allocated is released. */
void pages_close(void);

#endif
