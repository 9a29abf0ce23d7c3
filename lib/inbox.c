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
		/* acquire <- inbox_emptied(); retries: see (I5) */
	} while (!u32_cas_weak_acquire(&in->parcels, &seen, seen | *ret_bit));
	return first_of(in, *ret_bit);
}

static uint32_t count_of(const struct stash *st, uint32_t owner)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < stash_claims(st); i++)
		count += st->claim[i].owner == owner;
	return count;
}

/* Meanwhile all of them are in hand: in the child of a fork they are lost, but
 * none is there twice. */
static void move(struct stash *st, uint32_t owner, struct parcel *to)
{
	uint32_t count = stash_claims(st), moved = 0, stay = 0;

	claims_set(st, 0);
	for (uint32_t i = 0; i < count; i++) {
		struct claim *c = &st->claim[i];

		if (c->owner == owner && moved < STASH_BATCH)
			claim_copy(&to->claim[moved++], c);
		else
			claim_copy(&st->claim[stay++], c);
	}
	claims_set(st, stay);
	u32_store_relaxed(&to->count, moved); /* relaxed: as the claims */
}

bool inbox_bring(struct stash *st, uint32_t most)
{
	uint32_t count = stash_claims(st), bit;
	uint32_t owner = count ? st->claim[count - 1].owner : 0;
	struct stash *to;
	struct parcel *parcel;

	if (!owner || count_of(st, owner) < PARCEL_LEAST)
		return false;
	to = stash_at(&st->allocator->stashes, owner);
	parcel = reserve(&to->inbox, most, &bit);
	if (!parcel)
		return false;
	move(st, owner, parcel);
	/* seq_cst: release -> inbox_full(): the claims; the store of (I4) */
	u32_add_seq_cst(&to->inbox.parcels, bit << INBOX_PARCELS);
	return true;
}

/* ---- emptying ---- */

uint32_t inbox_take(struct inbox *in, uint32_t full, struct claim *ret_claims)
{
	uint32_t bit = full & -full, count;
	struct parcel *parcel;

	if (!full)
		return 0;
	parcel = first_of(in, full);
	count = u32_load_relaxed(&parcel->count); /* relaxed: as the claims */
	for (uint32_t i = 0; i < count; i++)
		claim_copy(&ret_claims[i], &parcel->claim[i]);
	/* seq_cst: release -> reserve() */
	u32_sub_seq_cst(&in->parcels, bit | bit << INBOX_PARCELS);
	return count;
}
