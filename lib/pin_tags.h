/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who pins what since when: a record for each pin that was given a tag.
 *
 * A record's use is odd while it is in use and grows with every change, so of
 * any number of drops with one token one wins, and a report that read the same
 * odd use before and after the rest has read one pin's record.
 * Records are type-stable (slab.h).  Lock-free, but for the mapping of memory.
 */
#ifndef SEG_PIN_TAGS_H
#define SEG_PIN_TAGS_H

#include "seg.h"
#include "slab.h"

struct pin_tags {
	struct slab records;
};

void pin_tags_init(struct pin_tags *t);

/* As slab_clear(). */
bool pin_tags_clear(struct pin_tags *t);

/* A token other than 0; 0: no memory. */
uint64_t pin_tags_add(struct pin_tags *t, const struct seg_pin_info *info);

/* False: the token was given back already. */
bool pin_tags_drop(struct pin_tags *t, uint64_t token);

/* Calls fn for each, with the time it is held. */
void pin_tags_each(struct pin_tags *t,
		   void (*fn)(void *ctx, const struct seg_pin_info *info),
		   void *ctx);

uint64_t pin_tags_bytes(struct pin_tags *t);

#endif
