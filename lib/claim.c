/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See claim.h for the protocol and its argument. */
#include "claim.h"

#include "node.h"
#include "pool.h"
#include "rcu.h"

bool claim_make(struct claim *claim, struct region *r, uint32_t slice,
		uint64_t generation)
{
	/* relaxed, all: passed on with the stash, or by the exchange */
	ptr_store_relaxed(&claim->region, r);
	claim->slice = slice;
	claim->owner = owner_of(r, slice);
	claim->generation = generation | GENERATION_CLAIMED;
	/* release -> take_up(): the segment's last use */
	return u64_cas_strong_release(&r->generations[slice], &generation,
				      claim->generation);
}

static struct region *region_of(const struct claim *c)
{
	return ptr_load_relaxed(&c->region); /* relaxed: as claim_make() */
}

/* ---- who won ---- */

/* Nobody else looks at a claimed slice, but its owner. */
bool claim_is_won(const struct claim *c)
{
	struct atomic_u64 *generation = &region_of(c)->generations[c->slice];

	/* relaxed, both: ordered by section_is_left(), or see inbox.h, (I2) */
	if (u64_load_relaxed(generation) != c->generation)
		return false;
	u64_store_relaxed(generation,
			  (c->generation & ~GENERATION_CLAIMED) + 1);
	return true;
}

/* In a read section nobody is called: it is told later, without the address. */
static void report_lost(struct allocator *a, const struct claim *c)
{
	if (rcu_inside()) {
		/* relaxed, both: numbers; see report_dropped() */
		u32_add_relaxed(&a->stashes.lost, 1);
		u32_add_relaxed(&a->stashes.strays, 1);
		return;
	}
	(void)pool_misuse((struct seg_pool *)a, SEG_MISUSE_DOUBLE,
			  region_slice(region_of(c), c->slice));
}

void claims_report_lost(struct allocator *a, const struct claim *lost,
			uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		report_lost(a, &lost[i]);
}

/* Those of one region in one step; and takes them out. */
static uint32_t give_first_region(struct claim *won, uint32_t count)
{
	struct region *r = region_of(&won[0]);
	uint32_t slices[STASH_BATCH], given = 0, rest = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (region_of(&won[i]) == r)
			slices[given++] = won[i].slice;
		else
			won[rest++] = won[i];
	}
	class_pool_give_all(r->pool, r, slices, given);
	return rest;
}

void claims_give(struct claim *won, uint32_t count)
{
	if (!count)
		return;
	rcu_enter();
	while (count)
		count = give_first_region(won, count);
	rcu_leave();
}

/* Their owners, one after another: most are the same. */
static bool owner_is_out(struct allocator *a, const struct claim *c,
			 uint32_t *last_out)
{
	if (c->owner == *last_out)
		return true;
	if (!section_is_left(&stash_at(&a->stashes, c->owner)->section))
		return false;
	*last_out = c->owner;
	return true;
}

uint32_t claims_settle(struct allocator *a, struct claim *claims,
		       uint32_t count, bool ordered, bool *ret_lost)
{
	struct claim won[STASH_BATCH], lost[STASH_BATCH];
	uint32_t out = 0, wins = 0, losses = 0, open = 0;

	*ret_lost = false;
	if (!ordered)
		return count;
	for (uint32_t i = 0; i < count; i++) {
		if (!owner_is_out(a, &claims[i], &out))
			claims[open++] = claims[i];
		else if (claim_is_won(&claims[i]))
			won[wins++] = claims[i];
		else
			lost[losses++] = claims[i];
	}
	claims_give(won, wins);
	claims_report_lost(a, lost, losses);
	*ret_lost = losses != 0;
	return open;
}

/* ---- strays ---- */

static void count_stray(struct allocator *a, struct region *r, uint32_t by)
{
	/* relaxed, all: hints, and a number */
	u32_add_relaxed(&r->strays, by);
	u32_add_relaxed(&r->pool->strays, by);
	u32_add_relaxed(&a->stashes.strays, by);
}

static struct atomic_u64 *stray_word(struct region *r, uint32_t slice)
{
	return &r->stray_bits[slice / 64];
}

static uint64_t stray_bit(uint32_t slice)
{
	return (uint64_t)1 << slice % 64;
}

/* True for the one that answers for a claim that strayed. */
static bool clear_bit(struct region *r, uint32_t slice)
{
	uint64_t bit = stray_bit(slice);

	/* relaxed: a hint */
	if (!(u64_load_relaxed(stray_word(r, slice)) & bit))
		return false;
	/* seq_cst: after let_stray()'s mark */
	return u64_and_seq_cst(stray_word(r, slice), ~bit) & bit;
}

/* False: there is one from an earlier claim, whose mark is gone. */
static bool set_bit(struct region *r, uint32_t slice)
{
	uint64_t bit = stray_bit(slice);

	/* seq_cst: after the mark, -> clear_bit() */
	return !(u64_or_seq_cst(stray_word(r, slice), bit) & bit);
}

/* First the mark, so that whoever clears the bit finds it, or it is gone; not
 * both, since the owner has just released the slice. */
static void let_stray(struct allocator *a, const struct claim *c)
{
	struct region *r = region_of(c);
	uint64_t generation = c->generation;

	count_stray(a, r, 1);
	/* release -> take_up() */
	if (u64_cas_strong_release(&r->generations[c->slice], &generation,
				   generation | GENERATION_STRAY) &&
	    set_bit(r, c->slice))
		return;
	count_stray(a, r, UINT32_MAX);	/* one less */
	report_lost(a, c);
}

uint32_t claims_settle_all(struct allocator *a, struct claim *claims,
			   uint32_t count, bool ordered)
{
	bool lost;
	uint32_t open = claims_settle(a, claims, count, ordered, &lost);

	for (uint32_t i = 0; i < open; i++)
		let_stray(a, &claims[i]);
	return count - open;
}

/* Whether the mark is there; then the claim is the caller's. */
static bool clear_mark(struct region *r, uint32_t slice, uint64_t generation)
{
	/* acquire <- claim_make(), let_stray(): the segment's last use */
	return (generation & GENERATION_STRAY) &&
	       u64_cas_strong_acquire(&r->generations[slice], &generation,
				      generation & ~GENERATION_STRAY);
}

static bool take_up(struct allocator *a, struct region *r, uint32_t slice,
		    struct claim *ret_claim)
{
	uint64_t generation;

	if (!clear_bit(r, slice))
		return false;
	count_stray(a, r, UINT32_MAX);	/* one less */
	generation = region_generation(r, slice);
	/* relaxed: our own until others see it */
	ptr_store_relaxed(&ret_claim->region, r);
	ret_claim->slice = slice;
	ret_claim->owner = owner_of(r, slice);
	ret_claim->generation = generation & ~GENERATION_STRAY;
	if (clear_mark(r, slice, generation))
		return true;
	report_lost(a, ret_claim);
	return false;
}

static bool settle_region(struct allocator *a, struct region *r)
{
	struct claim claims[STASH_BATCH];
	uint32_t count = 0, settled = 0;

	for (uint32_t i = 0; i < r->slices; i++) {
		count += take_up(a, r, i, &claims[count]);
		if (count == STASH_BATCH || (count && i + 1 == r->slices)) {
			settled += claims_settle_all(a, claims, count,
						     sections_barrier());
			count = 0;
		}
	}
	return settled != 0;
}

/* Outside the section, since misuse is reported: (R5). */
static bool settle_pool(struct allocator *a, struct class_pool *cp)
{
	/* relaxed: a hint */
	uint32_t slots = u32_load_relaxed(&cp->strays) ?
				 bands_slots(&cp->bands) : 0;
	bool any = false;

	for (uint32_t slot = 0; slot < slots; slot++) {
		struct region *r;

		rcu_enter();
		r = bands_at(&cp->bands, slot);
		rcu_leave();
		if (r && u32_load_relaxed(&r->strays)) /* relaxed: a hint */
			any |= settle_region(a, r);
	}
	return any;
}

/* Of regions that are gone, or found out in a read section: it is not known
 * where. */
static void report_dropped(struct allocator *a)
{
	/* acq_rel: more than a number needs */
	uint32_t lost = u32_exchange_acq_rel(&a->stashes.lost, 0);

	/* relaxed: a hint */
	u32_add_relaxed(&a->stashes.strays, 0 - lost);
	while (lost--)
		(void)pool_misuse((struct seg_pool *)a, SEG_MISUSE_DOUBLE,
				  NULL);
}

bool claims_settle_strays(struct allocator *a)
{
	struct seg_pool *p = (struct seg_pool *)a;
	bool any = false;

	if (!u32_load_relaxed(&a->stashes.strays)) /* relaxed: a hint */
		return false;
	if (!rcu_inside())
		report_dropped(a);
	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;)
		for (int c = 0; c < SEG_CLASSES; c++)
			any |= settle_pool(a, &n->pools[c]);
	return any;
}
