/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a thread does where its stash has no slice, or no room for one: it fills
 * a magazine from the fullest region, or empties a part of it into the regions,
 * many slices in one step; and gets more room as it needs more.
 */
#ifndef SEG_FILL_H
#define SEG_FILL_H

#include "class_pool.h"

/* A slice for a thread whose stash has none; what comes along is parked. */
struct taken fill_take(struct class_pool *cp);

/* Parks a slice that the caller has in hand, or gives it to its region. */
void fill_park(struct stash *st, struct region *r, uint32_t slice);

#endif
