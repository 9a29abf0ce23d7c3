/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See pin_slots.h. */
#include "pin_slots.h"

#include <stddef.h>

struct pin_slots pin_slots[COUNTER_OWNERS];

/* Free, or from now on: another thread gave its pin back. */
static bool is_free(struct pin_slot *s)
{
	/* relaxed: its own */
	if (!ptr_load_relaxed(&s->entry))
		return true;
	/* acquire <- end_use(): passed on by pin_slot_fill() (N2) */
	if (!(u64_load_acquire(&s->use) & PIN_GONE))
		return false;
	pin_slot_empty(s);
	return true;
}

uint32_t pin_slot_other(uint32_t place)
{
	struct pin_slots *mine = counter_at(pin_slots, place);

	for (uint32_t i = 0; i < PIN_SLOTS; i++)
		if (is_free(&mine->slot[i])) {
			mine->next = i * (uint32_t)sizeof(mine->slot[0]);
			return place + mine->next;
		}
	return 0;
}

/* Of that use, and of no later one. */
static enum pin_slot_had end_use(struct pin_slot *s, uint64_t use)
{
	uint64_t seen = use;

	do {
		if ((seen & PIN_GONE) || (seen ^ use) & ~(uint64_t)PIN_ENDS)
			return PIN_WAS_NONE;
		/* acq_rel: release -> pin_slot_move(), is_free() (N2); acquire
		 * <- pin_slot_move(): it is in the word; retries after that */
	} while (!u64_cas_strong_acq_rel(&s->use, &seen, seen | PIN_GONE));
	return seen & PIN_MOVED ? PIN_STANDS_IN_WORD : PIN_STOOD_HERE;
}

enum pin_slot_had pin_slot_settle(struct pin_slot *s)
{
	/* relaxed: compared; its own, but for how it ends */
	return end_use(s, u64_load_relaxed(&s->use));
}

enum pin_slot_had pin_slot_end(struct pin_slot *s, const struct cache_entry *e,
			       uint64_t version)
{
	/* acquire <- pin_slot_fill(): a later use would say another number */
	uint64_t use = u64_load_acquire(&s->use);

	return pin_slot_is_of(s, e, version) ? end_use(s, use) : PIN_WAS_NONE;
}

bool pin_slot_move(const struct slot_pin *pin)
{
	uint64_t use = pin->use;

	/* acq_rel: release -> end_use(): the word has it; acquire <- the same
	 * (N2) */
	return u64_cas_strong_acq_rel(&pin->slot->use, &use, use | PIN_MOVED);
}

/* Maybe the entry of a later use: that fails to be moved, and need not be, as
 * it was filled after the barrier.  False: the slot is free, or its pin was
 * moved. */
static bool see(struct pin_slot *s, struct slot_pin *ret_pin)
{
	/* acquire, all <- pin_slot_fill(), pin_slot_empty(): in the order in
	 * which they are stored, so no entry of an earlier use (N2) */
	ret_pin->use = u64_load_acquire(&s->use);
	ret_pin->entry = ptr_load_acquire(&s->entry);
	ret_pin->version = u64_load_acquire(&s->version);
	ret_pin->slot = s;
	return ret_pin->entry && !(ret_pin->use & PIN_ENDS);
}

void pin_slots_each(void (*fn)(void *ctx, const struct slot_pin *pin),
		    void *ctx)
{
	uint32_t owners = counter_slots();
	struct slot_pin pin;

	if (owners > COUNTER_OWNERS)
		owners = COUNTER_OWNERS;
	for (uint32_t n = 0; n < owners; n++)
		for (uint32_t i = 0; i < PIN_SLOTS; i++)
			if (see(&pin_slots[n].slot[i], &pin))
				fn(ctx, &pin);
}
