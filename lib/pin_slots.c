/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See pin_slots.h. */
#include "pin_slots.h"

#include <stddef.h>

struct pin_slots pin_slots[COUNTER_OWNERS];

uint32_t pin_slot_other(uint32_t place)
{
	struct pin_slots *mine = counter_at(pin_slots, place);

	for (uint32_t i = 0; i < PIN_SLOTS; i++) {
		uint32_t at = i * (uint32_t)sizeof(mine->slot[0]);

		if (pin_slot_is_free(place + at)) {
			mine->next = at;
			return place + at;
		}
	}
	return 0;
}

bool pin_slot_settle(struct pin_slot *s)
{
	/* relaxed: others change no more than how it ends */
	uint64_t use = u64_load_relaxed(&s->use) & ~(uint64_t)PIN_ENDS;

	/* acq_rel: release -> pin_slot_move() (N2); acquire <- the same */
	return u64_cas_strong_acq_rel(&s->use, &use, use | PIN_GONE);
}

bool pin_slot_end(struct pin_slot *s, const struct cache_entry *e,
		  uint64_t version)
{
	uint64_t use = u64_load_relaxed(&s->use); /* relaxed: compared */

	if (!pin_slot_is_of(s, e, version))
		return false;
	do {
		if (use & PIN_GONE)
			return false;
		/* acq_rel: release -> pin_slot_move() (N2); acquire <- the
		 * same: it is in the word; retries after that */
	} while (!u64_cas_strong_acq_rel(&s->use, &use, use | PIN_GONE));
	pin_slot_empty(s);
	return !(use & PIN_MOVED);
}

bool pin_slot_move(const struct slot_pin *pin)
{
	uint64_t use = pin->use;

	/* acq_rel: release -> pin_slot_end(), pin_slot_settle(): the word has
	 * it; acquire <- the same (N2) */
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
