/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which region of a pool to take from next: the fullest that has slices, so
 * that sparse ones drain, and all-unused ones (spares) last.  Full is what is
 * handed out: cold slices count as free, though they can't be taken as such.
 *
 * Each region has a slot.  For each band of occupancy there is a set of slots,
 * a bitmap of three levels, in which the first member is found in a few loads
 * whatever the number of regions.
 *
 * The sets are hints, the region word is the truth.  bands_settle() brings the
 * hints of one slot in line with the truth and looks again afterwards; whoever
 * changes a word calls bands_changed(), which settles where it matters:
 *   release into a sparser band, but for the last step to all-unused, which
 *   the keeper makes (so that a single segment going out and in costs nothing);
 *   a take that exhausts the region, or is the first from a spare.
 * So a region stands in the band of its word or in a sparser one.
 * Guarantees: (H1) When no thread is inside a call, each region with unused
 * slices is in one set, and no other region is in any.
 * (H2) A wrong hint costs a look, never a wrong answer.
 * Why (H1): a settler adds first, then clears the other sets, and then looks
 * at the word and at its own hint, all in one total order with the changes of
 * the word (seq_cst).  Whoever clears last looks after that clearing: it ends
 * only with its hint in place and the word in that band, and nobody clears
 * after it.  A change that it did not see settles itself, where it matters.
 * A thread that stops in the middle may leave a hint missing: bands_at()
 * finds the region all the same, and so does the next release into it.
 * One more set holds the regions with cold slices, in the same way: whoever
 * changes a cold list calls bands_settle() and bands_settle_cold().
 * Lock-free: a settler repeats only if the word crossed a border meanwhile.
 */
#ifndef SEG_BANDS_H
#define SEG_BANDS_H

#include "region.h"

/* The explorer makes it small: its cells are large. */
#ifndef BANDS_FANOUT
#define BANDS_FANOUT 64
#endif
#ifndef BANDS_TOP_WORDS
#define BANDS_TOP_WORDS 4
#endif

enum {
	BAND_FULLEST = 0,	/* up to a quarter free: unused or cold */
	BAND_SPARSEST = 3,	/* more than three quarters free */
	BAND_SPARE = 4,		/* all free */
	BAND_VACANT = 5,	/* no region: the slot can be had */
	BAND_COLD = 6,		/* has cold slices, beside all the others */
	BAND_SETS = 7,
	BAND_NONE = BAND_SETS,	/* no unused slice, or retired */
	BANDS_GROUP_SLOTS = BANDS_FANOUT * BANDS_FANOUT,
	BANDS_GROUPS = BANDS_TOP_WORDS * BANDS_FANOUT,
};

/* 4096 slots; made when the first of them is needed. */
struct band_group {
	struct {
		struct atomic_u64 mid;
		struct atomic_u64 leaf[BANDS_FANOUT];
	} set[BAND_SETS];
	struct atomic_ptr region[BANDS_GROUP_SLOTS];
};

struct bands {
	struct atomic_u64 top[BAND_SETS][BANDS_TOP_WORDS];
	struct atomic_ptr group[BANDS_GROUPS];
	struct atomic_u32 used;		/* slots that ever were */
};

/* Gets a slot; false: no memory, or no slot is left. */
bool bands_claim(struct bands *b, uint32_t *ret_slot);
void bands_vacate(struct bands *b, uint32_t slot);

/* Shows the region, in its claimed slot, to who takes. */
void bands_publish(struct bands *b, struct region *r);

/* Takes the region out and vacates the slot.  Only who retired it. */
void bands_remove(struct bands *b, struct region *r);

/* After a take, or a give. */
void bands_changed(struct bands *b, struct region *r, uint64_t old,
		   uint64_t new);
void bands_settle(struct bands *b, uint32_t slot);
/* After a change of its cold list, beside the above. */
void bands_settle_cold(struct bands *b, uint32_t slot);

/* The band of a region with that word, as far as is known. */
unsigned bands_of(const struct region *r, uint64_t word);

/* Whether three quarters and more of it are free. */
bool bands_is_sparse(const struct region *r, uint64_t word);

/* A region of the set, or of the first non-empty one; NULL: none.
 * In a read section. */
struct region *bands_first(struct bands *b, unsigned band);
struct region *bands_pick(struct bands *b);

/* The region in a slot below bands_slots(), or NULL.  In a read section. */
struct region *bands_at(struct bands *b, uint32_t slot);
uint32_t bands_slots(struct bands *b);

/* The next member of a set from a slot on; UINT32_MAX: none. */
uint32_t bands_next(struct bands *b, unsigned band, uint32_t from);

/* Whether the slot is in that set; in any from BAND_FULLEST to BAND_SPARE. */
bool bands_has(struct bands *b, unsigned band, uint32_t slot);
bool bands_has_hint(struct bands *b, uint32_t slot);

uint64_t bands_bytes(struct bands *b);

/*
 * Gives the groups back; there is no region, and nobody uses the bands.  False:
 * the kernel did not take one; the bands can be used, or cleared, again.
 */
bool bands_clear(struct bands *b);

#endif
