/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pins in the memory of the threads that pin.
 *
 * A pin in the entry's word changes a line that all who read the entry share,
 * so threads that pin the same entries wait for each other's caches.  An open
 * entry (cache_entry.h, E7) is pinned by a store to a slot of the pinning
 * thread's own instead, and nobody writes to the entry.  The price is paid by
 * who wants to know whether anybody pins it, for many entries at once.
 *
 *   who pins                         who closes, under the cache's lock
 *   1  its slot = entry and version  1  the word: not open any more
 *   2  looks at the word again:      2  sections_barrier()
 *      open, and that version?       3  looks at all slots; for each with the
 *      Then it is pinned, else the      entry, of this life: a pin more in the
 *      slot is emptied                  word, then the slot is emptied; if
 *                                       somebody else did by then: unpins
 *
 * Guarantees: (N1) Each pin stands in a slot or in the word until it is given
 * back.  For either who pins saw the word closed, and has no pin, or who closes
 * sees its slot (1 before 2 and 1 before 3, by the barrier, see section.h); who
 * empties the slot, which one compare-exchange decides, knows where the pin is.
 * (N2) What was read under a pin in a slot was read before the entry ends: the
 * release of the exchange that emptied the slot, or of the stores that filled
 * it again, is acquired by the looks of who closes.  (N3) Who is between 1 and
 * 2, and may be stopped there, has at most what it looked up: a slot with
 * another version is passed over.
 *
 * A slot is filled by its thread alone, and emptied by anybody: pins are given
 * back in other threads, too, and after their thread has ended.  Two pins of
 * one entry and version are alike: where one of them was moved it does not
 * matter which.  Where a thread has no slots, or no free one, it pins in the
 * word; so all do where the kernel has no barrier.
 *
 * Wait-free.  Sources: hazard pointers (Michael, 2004), and readers who show
 * themselves in memory of their own while nobody writes (Dice and Kogan, BRAVO,
 * 2019).
 */
#ifndef SEG_PIN_SLOTS_H
#define SEG_PIN_SLOTS_H

#include "cache_entry.h"

#ifndef PIN_SLOTS
#define PIN_SLOTS 7		/* of a thread, in two lines */
#endif
enum { PIN_SLOT_BITS = 3 };	/* of a slot's number; the others: whose */

struct pin_slot {
	struct atomic_ptr entry;	/* NULL: it is free */
	struct atomic_u64 version;
};

struct pin_slots {
	_Alignas(COUNTER_PLACE_BYTES) struct pin_slot slot[PIN_SLOTS];
	uint32_t next;		/* where its thread looks first */
};

_Static_assert(sizeof(struct pin_slots) == COUNTER_PLACE_BYTES, "places");
_Static_assert(PIN_SLOTS < 1 << PIN_SLOT_BITS, "numbers of slots");

/* By the numbers of threads that own theirs, see counter.h. */
extern struct pin_slots pin_slots[COUNTER_OWNERS];

/* Slots have numbers from 1 on; 0: a pin that stands in the word. */
static inline struct pin_slot *pin_slot(uint32_t id)
{
	uint32_t at = id - 1;

	return &pin_slots[at >> PIN_SLOT_BITS]
			.slot[at & ((1 << PIN_SLOT_BITS) - 1)];
}

static inline uint32_t pin_slot_id(uint32_t place, uint32_t i)
{
	return (place / COUNTER_PLACE_BYTES << PIN_SLOT_BITS) + i + 1;
}

/* Another one of the thread's that is free, or PIN_SLOTS. */
uint32_t pin_slots_other(const struct pin_slots *mine);

/* Step 1; 0: all its slots are in use. */
static inline uint32_t pin_slot_fill(uint32_t place, struct cache_entry *e,
				     uint64_t version)
{
	struct pin_slots *mine = counter_at(pin_slots, place);
	uint32_t i = mine->next;

	/* acquire <- pin_slot_empty(): passed on by the store (N2) */
	if (__builtin_expect(ptr_load_acquire(&mine->slot[i].entry) != NULL,
			     0)) {
		i = pin_slots_other(mine);
		if (i == PIN_SLOTS)
			return 0;
		mine->next = i;
	}
	/* release -> all that look at it: what emptied the slot (N2), and to
	 * where the pin that stood here went */
	u64_store_release(&mine->slot[i].version, version);
	/* release -> pin_slots_each(): the version; see N2 */
	ptr_store_release(&mine->slot[i].entry, e);
	compiler_barrier();	/* before the look, see section.h */
	return pin_slot_id(place, i);
}

/* Whether the slot has the entry, with that version. */
static inline bool pin_slot_has(uint32_t id, const struct cache_entry *e,
				uint64_t version)
{
	/* acquire, both <- pin_slot_fill(); who moved it: the word has it */
	return ptr_load_acquire(&pin_slot(id)->entry) == e &&
	       u64_load_acquire(&pin_slot(id)->version) == version;
}

/* False: another thread has emptied it, so the pin stands in the word now, or
 * there was none. */
static inline bool pin_slot_empty(uint32_t id, struct cache_entry *e,
				  uint64_t version)
{
	void *old = e;

	/* acquire <- pin_slot_fill(): another one says the same as an exchange
	 * that fails */
	if (u64_load_acquire(&pin_slot(id)->version) != version)
		return false;
	/* acq_rel: release -> pin_slots_each() (N2); acquire <- who moved the
	 * pin: it is in the word */
	return ptr_cas_strong_acq_rel(&pin_slot(id)->entry, &old, NULL);
}

/* One that was seen in a slot. */
struct slot_pin {
	uint32_t id;
	struct cache_entry *entry;
	uint64_t version;
};

/* Calls fn for each slot that is in use; wait-free. */
void pin_slots_each(void (*fn)(void *ctx, const struct slot_pin *pin),
		    void *ctx);

#endif
