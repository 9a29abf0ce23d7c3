/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See region.h for the protocol and its argument. */
#include "region.h"

#include "assert.h"
#include "backoff.h"
#include "cold.h"

enum { WORD_BITS = 64 };

static size_t stray_words(uint32_t slices)
{
	return (slices + WORD_BITS - 1) / WORD_BITS;
}

static size_t strays_offset(uint32_t slices)
{
	size_t bytes = slices * (sizeof(struct atomic_u64) +
				 2 * sizeof(struct atomic_u16));

	return (bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t) *
	       sizeof(uint64_t);
}

size_t region_arrays_bytes(uint32_t slices)
{
	return strays_offset(slices) +
	       stray_words(slices) * sizeof(struct atomic_u64);
}

void region_init(struct region *r, void *arrays, uint32_t slices,
		 uint32_t taken)
{
	r->slices = slices;
	r->arrays_bytes = region_arrays_bytes(slices);
	r->generations = arrays;
	r->links = (struct atomic_u16 *)(r->generations + slices);
	r->owners = r->links + slices;
	r->stray_bits = (void *)((char *)arrays + strays_offset(slices));
	region_begin(r, taken);
}

void region_begin(struct region *r, uint32_t taken)
{
	for (uint32_t i = 0; i < taken; i++)
		/* release -> pool_find_out(): the base of the life before is
		 * not its base any more */
		u64_store_release(&r->generations[i], r->floor + 1);
	/* relaxed: not yet published */
	u64_store_relaxed(&r->word, word_next(0, taken, r->slices - taken));
}

uint32_t region_drop_strays(struct region *r)
{
	uint32_t count = 0;

	for (size_t i = 0; i < stray_words(r->slices); i++)
		/* seq_cst: whoever clears a bit answers for it */
		count += (uint32_t)__builtin_popcountll(
			u64_and_seq_cst(&r->stray_bits[i], 0));
	return count;
}

void region_end(struct region *r)
{
	for (uint32_t i = 0; i < r->slices; i++) {
		uint64_t generation = region_generation(r, i);

		if (generation > r->floor)
			r->floor = generation;
	}
	/* One that was never published goes with its first slice out. */
	r->floor += r->floor & 1;
	/* relaxed: published with the next life */
	u64_store_relaxed(&r->cold, 0);
}

void region_zero_arrays(struct region *r)
{
	for (uint32_t i = 0; i < r->slices; i++) {
		/* relaxed, all: published with the next life */
		u64_store_relaxed(&r->generations[i], 0);
		u16_store_relaxed(&r->links[i], 0);
		u16_store_relaxed(&r->owners[i], 0); /* relaxed: as above */
	}
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

bool region_hand_out(struct region *r, uint32_t slice)
{
	/* relaxed: ordered by the word, which the caller acquired */
	uint64_t generation = u64_load_relaxed(&r->generations[slice]);

	if (generation & 1)
		seg_die("slice handed out twice: memory corrupted");
	u16_store_relaxed(&r->owners[slice], 0); /* relaxed: see below */
	/* release -> region_find_out(): the owner, and the base */
	u64_store_release(&r->generations[slice],
			  (generation ? generation : r->floor) + 1);
	return generation == 0;
}

uint64_t region_look(const struct region *r)
{
	/* seq_cst: load after the store of waiters (budget_wait_begin());
	 * acquire <- region_give(): the links */
	return u64_load_seq_cst(&r->word);
}

uint32_t region_take_unused(struct region *r, uint32_t want,
			    uint32_t *ret_slices,
			    struct word_change *ret_change)
{
	struct word_change c = { .old = region_look(r) };
	struct backoff backoff = BACKOFF_INIT;
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
	*ret_change = c;
	return n;
}

uint32_t region_take(struct region *r, uint32_t want, uint32_t *ret_slices,
		     bool *ret_fresh, struct word_change *ret_change)
{
	uint32_t n = region_take_unused(r, want, ret_slices, ret_change);
	bool fresh = false;

	for (uint32_t i = 0; i < n; i++)
		fresh = region_hand_out(r, ret_slices[i]);
	if (ret_fresh)
		*ret_fresh = fresh;
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

struct word_change region_give_all(struct region *r, const uint32_t *slices,
				   uint32_t count)
{
	/* relaxed: only compared, and linked to */
	struct word_change c = { .old = u64_load_relaxed(&r->word) };
	struct backoff backoff = BACKOFF_INIT;

	for (uint32_t i = 0; i + 1 < count; i++)
		link_store(r, slices[i], slices[i + 1]);
	for (;;) {
		link_store(r, slices[count - 1], word_head(c.old));
		c.new = word_next(c.old, slices[0],
				  word_unused(c.old) + count);
		/* seq_cst: release -> region_take(), region_retire() (R3);
		 * store before the load of waiters, see budget_notify();
		 * retries only when another thread took or gave */
		if (u64_cas_weak_seq_cst(&r->word, &c.old, c.new))
			return c;
		backoff_pause(&backoff);
	}
}

struct word_change region_give(struct region *r, uint32_t slice)
{
	return region_give_all(r, &slice, 1);
}

bool region_retire(struct region *r, uint64_t seen)
{
	uint32_t unused = word_unused(seen), cold = r->slices - unused;
	bool won;

	if (word_retired(seen) || (cold && !cold_close(r, cold)))
		return false;
	/* acquire <- region_give(): all use is over before the unmapping */
	won = u64_cas_strong_acquire(&r->word, &seen,
				     word_next(seen, word_head(seen), unused) |
					     REGION_RETIRED);
	if (!won && cold)
		cold_reopen(r);
	return won;
}

uint64_t region_generation(const struct region *r, uint32_t slice)
{
	/* relaxed: compared for equality only */
	return u64_load_relaxed(&r->generations[slice]);
}

/* As many as the word says, all unused, none twice on any list. */
static bool list_is_valid(const struct region *r, uint64_t word,
			  struct slice_set *seen)
{
	uint32_t at = word_head(word);

	for (uint32_t n = word_unused(word); n; n--) {
		if (at >= r->slices || slice_set_has(seen, at) ||
		    (region_generation(r, at) & 1))
			return false;
		slice_set_add(seen, at);
		at = link_load(r, at);
	}
	return true;
}

/* At rest it is closed only in a retired region. */
static bool closing_is_valid(uint64_t word, uint64_t cold)
{
	bool closed = cold & COLD_CLOSED;

	return closed == (word_retired(word) && cold_word_count(cold));
}

uint32_t region_count_out(const struct region *r)
{
	uint32_t out = 0;

	for (uint32_t i = 0; i < r->slices; i++)
		out += generation_is_out(region_generation(r, i));
	return out;
}

bool region_check(const struct region *r, uint32_t *ret_parked)
{
	struct slice_set seen = { .bits = { 0 } };
	uint64_t word = region_look(r);
	uint64_t cold = u64_load_relaxed(&r->cold); /* relaxed: all is quiet */
	uint32_t known = word_unused(word) + cold_word_count(cold) +
			 region_count_out(r);

	*ret_parked = r->slices - known;
	return known <= r->slices && closing_is_valid(word, cold) &&
	       list_is_valid(r, word, &seen) && list_is_valid(r, cold, &seen);
}

bool region_is_valid(const struct region *r)
{
	uint32_t parked;

	return region_check(r, &parked) && !parked;
}
