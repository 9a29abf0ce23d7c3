/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See inbox.h for the protocol and its argument. */
#include "inbox.h"

static struct parcel *first_of(struct inbox *in, uint32_t bits)
{
	return &in->parcel[__builtin_ctz(bits)];
}

/* ---- bringing ---- */

/* One of the first so many parcels; NULL: none is free. */
static struct parcel *reserve(struct inbox *in, uint32_t most,
			      uint32_t *ret_bit)
{
	/* relaxed: a guess */
	uint32_t seen = u32_load_relaxed(&in->parcels), free;

	do {
		free = ~seen & (((uint32_t)1 << most) - 1);
		if (!free)
			return NULL;
		*ret_bit = free & -free;
		/* acquire <- inbox_take(); retries: see (I5) */
	} while (!u32_cas_weak_acquire(&in->parcels, &seen, seen | *ret_bit));
	return first_of(in, *ret_bit);
}

/* What would go to that owner: its first claims. */
struct lot {
	uint32_t owner, count;
	uint64_t bytes;
};

static struct lot lot_of(const struct stash *st, uint32_t owner)
{
	struct lot lot = { .owner = owner };

	for (uint32_t i = 0; i < stash_claims(st); i++) {
		const struct claim *c = &st->claim[i];
		/* relaxed: our own */
		const struct region *r = ptr_load_relaxed(&c->region);

		if (c->owner != owner || lot.count == STASH_BATCH)
			continue;
		lot.count++;
		lot.bytes += r->slice_bytes;
	}
	return lot;
}

/* Each time all that stand are looked at: where there are many owners, it is
 * better to settle them. */
static bool is_worth_it(const struct stash *st, const struct lot *lot)
{
	uint32_t count = stash_claims(st);

	return lot->count >= PARCEL_LEAST &&
	       (count <= STASH_BATCH || lot->count >= count / 8);
}

/* An inbox may have so many such: as much as a thread may claim. */
static uint32_t most_parcels(const struct lot *lot, uint64_t limit_bytes)
{
	uint64_t most = limit_bytes / STASH_CLAIM_SHARE * lot->count /
			(lot->bytes * STASH_BATCH) + 1;

	return most < INBOX_PARCELS ? (uint32_t)most : INBOX_PARCELS;
}

/* All inboxes together have a share of the limit: their owners may be idle. */
static bool may_go(struct stashes *all, const struct lot *lot,
		   uint64_t limit_bytes)
{
	/* relaxed, both: a number */
	uint64_t bytes = u64_add_relaxed(&all->brought_bytes, lot->bytes);

	if (bytes + lot->bytes <= limit_bytes / INBOX_SHARE)
		return true;
	u64_sub_relaxed(&all->brought_bytes, lot->bytes);
	return false;
}

/* Meanwhile all of them are in hand: in the child of a fork they are lost, but
 * none is there twice. */
static void move(struct stash *st, const struct lot *lot, struct parcel *to)
{
	uint32_t count = stash_claims(st), moved = 0, stay = 0;

	claims_set(st, 0);
	for (uint32_t i = 0; i < count; i++) {
		struct claim *c = &st->claim[i];

		if (c->owner == lot->owner && moved < lot->count)
			claim_copy(&to->claim[moved++], c);
		else
			claim_copy(&st->claim[stay++], c);
	}
	claims_set(st, stay);
	to->bytes = lot->bytes;
	/* release -> stash.c, add_inbox(): the claims */
	u32_store_release(&to->count, moved);
}

static bool bring_to(struct stash *to, struct stash *st, const struct lot *lot,
		     uint64_t limit_bytes)
{
	uint32_t bit;
	struct parcel *parcel = reserve(&to->inbox,
					most_parcels(lot, limit_bytes), &bit);

	if (!parcel)
		return false;
	move(st, lot, parcel);
	/* seq_cst: release -> inbox_full(): the claims; the store of (I4) */
	u32_add_seq_cst(&to->inbox.parcels, bit << INBOX_PARCELS);
	return true;
}

bool inbox_bring(struct stash *st, uint64_t limit_bytes)
{
	struct stashes *all = &st->allocator->stashes;
	uint32_t count = stash_claims(st);
	uint32_t owner = count ? st->claim[count - 1].owner : 0;
	struct stash *to = owner ? stash_at(all, owner) : NULL;
	struct lot lot = lot_of(st, owner);

	/* relaxed: a hint; what is brought too late is found there */
	if (!to || !u32_load_relaxed(&to->used) || !is_worth_it(st, &lot) ||
	    !may_go(all, &lot, limit_bytes))
		return false;
	if (bring_to(to, st, &lot, limit_bytes))
		return true;
	/* relaxed: as may_go() */
	u64_sub_relaxed(&all->brought_bytes, lot.bytes);
	return false;
}

/* ---- emptying ---- */

uint32_t inbox_take(struct stashes *all, struct inbox *in, uint32_t full,
		    struct claim *ret_claims)
{
	uint32_t bit = full & -full, count;
	struct parcel *parcel;

	if (!full)
		return 0;
	parcel = first_of(in, full);
	count = u32_load_relaxed(&parcel->count); /* relaxed: as the claims */
	for (uint32_t i = 0; i < count; i++)
		claim_copy(&ret_claims[i], &parcel->claim[i]);
	/* relaxed: as may_go() */
	u64_sub_relaxed(&all->brought_bytes, parcel->bytes);
	/* seq_cst: release -> reserve() */
	u32_sub_seq_cst(&in->parcels, bit | bit << INBOX_PARCELS);
	return count;
}
