/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cold.h for the protocol and its argument. */
#include "cold.h"

#include "assert.h"
#include "backoff.h"

enum { WITHDRAW_FROM_END = 2 };	/* tries, before a shorter walk has to do */

uint32_t slice_set_next(const struct slice_set *set, uint32_t from)
{
	uint32_t word = from / 64;
	uint64_t bits;

	if (from >= REGION_MAX_SLICES)
		return REGION_MAX_SLICES;
	bits = set->bits[word] >> from % 64 << from % 64;
	while (!bits && ++word < REGION_MAX_SLICES / 64)
		bits = set->bits[word];
	return bits ? word * 64 + (uint32_t)__builtin_ctzll(bits) :
		      REGION_MAX_SLICES;
}

void cold_init(struct region *r, uint32_t from)
{
	uint64_t word = u64_load_relaxed(&r->word); /* relaxed: unpublished */
	uint32_t cold = r->slices - from;

	seg_assert(word_unused(word) >= cold);
	/* relaxed, both: not yet published */
	u64_store_relaxed(&r->word, word_next(0, word_head(word),
					      word_unused(word) - cold));
	u64_store_relaxed(&r->cold, word_next(0, from, cold));
}

/* The slice that comes so many after this one; nonsense, but within the
 * arrays, if the list changes meanwhile. */
static uint32_t walk(const struct region *r, uint32_t at, uint32_t steps)
{
	for (; steps; steps--) {
		at = link_load(r, at);
		if (at >= r->slices)
			at = 0;
	}
	return at;
}

/* The set of n slices from there on; returns what follows. */
static uint32_t collect(const struct region *r, uint32_t at, uint32_t n,
			struct slice_set *ret_set)
{
	*ret_set = (struct slice_set){ .bits = { 0 } };
	for (; n; n--) {
		if (at >= r->slices)
			at = 0;
		slice_set_add(ret_set, at);
		at = link_load(r, at);
	}
	return at;
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* A slice on a free list is nobody's. */
static void check_unused(const struct region *r, const struct slice_set *set)
{
	uint32_t at = 0;

	while ((at = slice_set_next(set, at)) != REGION_MAX_SLICES)
		if (region_generation(r, at++) & 1)
			seg_die("unused slice is handed out: memory corrupted");
}

/*
 * From the end of the list; head stays, the count ends it earlier.  Where
 * takers are faster than that walk, from its head, and fewer at each try: at
 * last that is as short as a take.
 */
uint32_t cold_withdraw(struct region *r, uint32_t want,
		       struct slice_set *ret_set)
{
	uint64_t old = region_look(r);
	struct backoff backoff = BACKOFF_INIT;

	for (unsigned tries = 0;; tries++) {
		bool from_end = tries < WITHDRAW_FROM_END;
		uint32_t unused = word_unused(old), n = least(want, unused);
		uint32_t head = word_head(old), next;

		if (n == 0 || word_retired(old))
			return 0;
		if (!from_end && want > 1)
			want /= 2;
		next = collect(r, from_end ? walk(r, head, unused - n) : head,
			       n, ret_set);
		if (from_end && n < unused)
			next = head;
		/* seq_cst: as in region_take(); retries only when another
		 * thread took, gave, withdrew or retired */
		if (u64_cas_weak_seq_cst(&r->word, &old,
					 word_next(old, next, unused - n))) {
			check_unused(r, ret_set);
			return n;
		}
		backoff_pause(&backoff);
	}
}

/* Links the members in order; the last one's link is left to the caller. */
static uint32_t chain(struct region *r, const struct slice_set *set,
		      uint32_t first)
{
	uint32_t last = first, next;

	while ((next = slice_set_next(set, last + 1)) != REGION_MAX_SLICES) {
		link_store(r, last, next);
		last = next;
	}
	return last;
}

void cold_push(struct region *r, const struct slice_set *set, uint32_t count)
{
	uint64_t old = u64_load_relaxed(&r->cold); /* relaxed: compared */
	uint32_t first = slice_set_next(set, 0);
	uint32_t last = chain(r, set, first);
	struct backoff backoff = BACKOFF_INIT;
	uint64_t next;

	for (;;) {
		link_store(r, last, word_head(old));
		next = word_next(old, first, cold_word_count(old) + count);
		/* seq_cst: release -> cold_pop(), cold_close(); store before
		 * the load of waiters, see budget_notify(), and before the look
		 * at the hints; retries only when another thread changed it */
		if (u64_cas_weak_seq_cst(&r->cold, &old,
					 next | (old & COLD_CLOSED)))
			return;
		backoff_pause(&backoff);
	}
}

static uint64_t look(const struct region *r)
{
	/* seq_cst: acquire <- cold_push(): the links; load after the store of
	 * waiters (budget_wait_begin()) */
	return u64_load_seq_cst(&r->cold);
}

static bool can_pop(uint64_t cold)
{
	return cold_word_count(cold) && !(cold & COLD_CLOSED);
}

bool cold_can_pop(const struct region *r)
{
	return can_pop(look(r));
}

bool cold_pop(struct region *r, uint32_t *ret_slice)
{
	uint64_t old = look(r);
	struct backoff backoff = BACKOFF_INIT;
	uint32_t head;

	for (;;) {
		if (!can_pop(old))
			return false;
		head = word_head(old);
		/* seq_cst: acquire <- cold_push(): the discarding is over;
		 * store before the look at the hints; retries only when
		 * another thread pushed, popped or closed */
		if (u64_cas_weak_seq_cst(&r->cold, &old,
					 word_next(old, link_load(r, head),
						   cold_word_count(old) - 1)))
			break;
		backoff_pause(&backoff);
	}
	region_hand_out(r, head);
	*ret_slice = head;
	return true;
}

bool cold_close(struct region *r, uint32_t count)
{
	/* relaxed: compared */
	uint64_t old = u64_load_relaxed(&r->cold);
	uint64_t closed;

	do {
		if ((old & COLD_CLOSED) || cold_word_count(old) != count)
			return false;
		closed = word_next(old, word_head(old), count) | COLD_CLOSED;
		/* acquire <- cold_push(): see (C3); retries only when another
		 * thread pushed or popped */
	} while (!u64_cas_weak_acquire(&r->cold, &old, closed));
	return true;
}

/* Nobody else clears the bit. */
void cold_reopen(struct region *r)
{
	/* seq_cst: store before the load of waiters, see budget_notify() */
	u64_sub_seq_cst(&r->cold, COLD_CLOSED);
}
