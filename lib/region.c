/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See region.h for the protocol and its argument. */
#include "region.h"

#include "assert.h"
#include "backoff.h"

size_t region_own_bytes(uint32_t slices)
{
	return sizeof(struct region) +
	       slices * (sizeof(struct atomic_u64) + sizeof(struct atomic_u16));
}

void region_init(struct region *r, uint32_t slices, uint32_t taken)
{
	r->slices = slices;
	r->own_bytes = region_own_bytes(slices);
	r->generations = (struct atomic_u64 *)(r + 1);
	r->links = (struct atomic_u16 *)(r->generations + slices);
	for (uint32_t i = 0; i < taken; i++)
		/* relaxed: not yet published */
		u64_store_relaxed(&r->generations[i], 1);
	/* relaxed: not yet published */
	u64_store_relaxed(&r->word, word_next(0, taken, slices - taken));
}

static uint32_t link_load(const struct region *r, uint32_t slice)
{
	/* relaxed: ordered by the word; a stale one fails the exchange */
	uint32_t step = u16_load_relaxed(&r->links[slice]);

	return (slice + 1 + step) & REGION_INDEX_MASK;
}

static void link_store(struct region *r, uint32_t slice, uint32_t next)
{
	uint32_t step = (next - slice - 1) & REGION_INDEX_MASK;

	/* relaxed: released by the exchange of the word that follows */
	u16_store_relaxed(&r->links[slice], (uint16_t)step);
}

/*
 * Reads n slices off the list that starts at head, and returns what follows.
 * Meanwhile the list may change under it; then it reads nonsense, within the
 * arrays, and the exchange fails.
 */
static uint32_t read_list(const struct region *r, uint32_t head, uint32_t n,
			  uint32_t *ret_slices)
{
	for (uint32_t i = 0; i < n; i++) {
		if (head >= r->slices)
			head = 0;
		ret_slices[i] = head;
		head = link_load(r, head);
	}
	return head;
}

/* The slice is the caller's alone; true if it never was anybody's. */
static bool hand_out(struct region *r, uint32_t slice)
{
	/* relaxed: ordered by the word, which the caller acquired */
	uint64_t generation = u64_load_relaxed(&r->generations[slice]);

	if (generation_is_out(generation))
		seg_die("slice handed out twice: memory corrupted");
	/* relaxed: whoever asks has it from the owner */
	u64_store_relaxed(&r->generations[slice], generation + 1);
	return generation == 0;
}

uint64_t region_look(const struct region *r)
{
	/* seq_cst: load after the store of waiters (budget_wait_begin());
	 * acquire <- region_give(): the links */
	return u64_load_seq_cst(&r->word);
}

uint32_t region_take(struct region *r, uint32_t want, uint32_t *ret_slices,
		     bool *ret_fresh, struct word_change *ret_change)
{
	struct word_change c = { .old = region_look(r) };
	struct backoff backoff = BACKOFF_INIT;
	bool fresh = false;
	uint32_t n, next;

	for (;;) {
		n = word_unused(c.old) < want ? word_unused(c.old) : want;
		if (n == 0 || word_retired(c.old))
			return 0;
		next = read_list(r, word_head(c.old), n, ret_slices);
		c.new = word_next(c.old, next, word_unused(c.old) - n);
		/* Retries only when another thread took, gave or retired.
		 * seq_cst: acquire <- region_give(): the last owner's use (R3)
		 * and, on failure, the links; store before the look at the
		 * hints, see bands_settle() */
		if (u64_cas_weak_seq_cst(&r->word, &c.old, c.new))
			break;
		backoff_pause(&backoff);
	}
	for (uint32_t i = 0; i < n; i++)
		fresh = hand_out(r, ret_slices[i]);
	if (ret_fresh)
		*ret_fresh = fresh;
	*ret_change = c;
	return n;
}

bool region_disown_exactly(struct region *r, uint32_t slice,
			   uint64_t generation)
{
	/* relaxed: it only picks the winner; region_give() orders */
	return generation_is_out(generation) &&
	       u64_cas_strong_relaxed(&r->generations[slice], &generation,
				      generation + 1);
}

bool region_disown(struct region *r, uint32_t slice)
{
	return region_disown_exactly(r, slice, region_generation(r, slice));
}

struct word_change region_give(struct region *r, uint32_t slice)
{
	/* relaxed: only compared, and linked to */
	struct word_change c = { .old = u64_load_relaxed(&r->word) };
	struct backoff backoff = BACKOFF_INIT;

	for (;;) {
		link_store(r, slice, word_head(c.old));
		c.new = word_next(c.old, slice, word_unused(c.old) + 1);
		/* seq_cst: release -> region_take(), region_retire() (R3);
		 * store before the load of waiters, see budget_notify();
		 * retries only when another thread took or gave */
		if (u64_cas_weak_seq_cst(&r->word, &c.old, c.new))
			return c;
		backoff_pause(&backoff);
	}
}

bool region_retire(struct region *r, uint64_t seen)
{
	uint64_t retired = word_next(seen, 0, r->slices) | REGION_RETIRED;

	if (word_retired(seen) || word_unused(seen) != r->slices)
		return false;
	/* acquire <- region_give(): all use is over before the unmapping */
	return u64_cas_strong_acquire(&r->word, &seen, retired);
}

uint64_t region_generation(const struct region *r, uint32_t slice)
{
	/* relaxed: compared for equality only */
	return u64_load_relaxed(&r->generations[slice]);
}

/* As many as the word says, all unused, none twice. */
static bool list_is_valid(const struct region *r, uint64_t word)
{
	uint64_t seen[REGION_MAX_SLICES / 64] = { 0 };
	uint32_t at = word_head(word);

	for (uint32_t n = word_unused(word); n; n--) {
		uint64_t bit = (uint64_t)1 << at % 64;

		if (at >= r->slices || (seen[at / 64] & bit) ||
		    generation_is_out(region_generation(r, at)))
			return false;
		seen[at / 64] |= bit;
		at = link_load(r, at);
	}
	return true;
}

bool region_is_valid(const struct region *r)
{
	uint64_t word = region_look(r);
	uint32_t out = 0;

	for (uint32_t i = 0; i < r->slices; i++)
		out += generation_is_out(region_generation(r, i));
	return word_unused(word) + out == r->slices && list_is_valid(r, word);
}
