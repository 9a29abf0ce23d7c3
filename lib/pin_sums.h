/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tagged pins of some caches come to: the first ones by time and by
 * weight, and the sums of each tag; in the caller's memory alone.
 *
 * There is room for the sums of PIN_SUMS_TAGS tags.  For another one the tag of
 * the least weight makes way, and the new one takes over that weight as `lost`:
 * it may have been dropped before, with at most as much (Space-Saving, Metwally
 * et al. 2005).  So with more tags, what is said of a tag is never too much;
 * and a tag that has more than one PIN_SUMS_TAGSth of the weight of all is
 * there, with no more than that missing from its weight.
 */
#ifndef SEG_PIN_SUMS_H
#define SEG_PIN_SUMS_H

#include "pin_tags.h"

enum { PIN_SUMS_TAGS = 64 };

struct pin_sum {
	struct seg_tag_sum sum;
	uint64_t lost;		/* weight that may be missing */
};

/* All zero at first, but for the lists. */
struct pin_sums {
	struct seg_pin_info *longest;	/* SEG_PINS_MOST each, zero at first */
	struct seg_pin_info *biggest;
	uint64_t tagged;
	unsigned tags;
	struct pin_sum tag[PIN_SUMS_TAGS];
};

void pin_sums_add(struct pin_sums *s, struct pin_tags *t);

/* The heaviest tags, heaviest first: SEG_PINS_MOST, zero where there are
 * fewer. */
void pin_sums_heaviest(const struct pin_sums *s, struct seg_tag_sum *ret_tags);

#endif
