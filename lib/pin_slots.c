/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See pin_slots.h. */
#include "pin_slots.h"

#include <stddef.h>

struct pin_slots pin_slots[COUNTER_OWNERS];

uint32_t pin_slots_other(const struct pin_slots *mine)
{
	uint32_t i = 0;

	/* acquire <- pin_slot_empty() */
	while (i < PIN_SLOTS && ptr_load_acquire(&mine->slot[i].entry))
		i++;
	return i;
}

static void look_at(uint32_t id,
		    void (*fn)(void *ctx, const struct slot_pin *pin),
		    void *ctx)
{
	struct slot_pin pin = { .id = id };

	/* acquire <- pin_slot_fill(), pin_slot_empty() (N2) */
	pin.entry = ptr_load_acquire(&pin_slot(id)->entry);
	if (!pin.entry)
		return;
	/* acquire <- pin_slot_fill(): the next one may stand there by now */
	pin.version = u64_load_acquire(&pin_slot(id)->version);
	fn(ctx, &pin);
}

void pin_slots_each(void (*fn)(void *ctx, const struct slot_pin *pin),
		    void *ctx)
{
	uint32_t owners = counter_slots();

	if (owners > COUNTER_OWNERS)
		owners = COUNTER_OWNERS;
	for (uint32_t n = 0; n < owners; n++)
		for (uint32_t i = 0; i < PIN_SLOTS; i++)
			look_at(pin_slot_id(counter_place_of(n), i), fn, ctx);
}
