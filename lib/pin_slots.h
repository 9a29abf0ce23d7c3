/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pins in the memory of the threads that pin.
 *
 * A pin in the entry's word changes a line that all who read the entry share,
 * so threads that pin the same entries wait for each other's caches.  An open
 * entry (cache_entry.h, E7) is pinned by stores to a slot of the pinning
 * thread's own instead, and given back by another one, if that thread does it:
 * nobody writes to the entry, and nothing is locked.  The price is paid by who
 * wants to know whether anybody pins it, for many entries at once.
 *
 *   who pins                         who closes, under the cache's lock
 *   1  its slot = entry and version  1  the word: not open, and shut
 *   2  looks at the word again:      2  sections_barrier()
 *      open, and that version?       3  looks at all slots; for each with the
 *      Then it is pinned, else 3        entry, of this life: a pin more in the
 *   3  its slot = NULL                  word, then the slot's use says MOVED;
 *   4  looks at the word again:         if it says GONE by then: a pin less
 *      open, and that version, and   4  the word: not shut
 *      the use not MOVED? Then it is
 *      given back, else the use says
 *      GONE; if MOVED was first, the
 *      pin stands in the word
 *
 * Guarantees: (N1) Each pin stands in a slot or in the word until it is given
 * back.  For either who pins saw the word closed, and has no pin, or who closes
 * sees its slot (1 before 2 and 1 before 3, by the barrier, see section.h).  In
 * the same way, either who closes sees the slot given back (3), or the thread's
 * look (4) finds the word closed, or open again: after MOVED was said, as it
 * was shut until then.  Where neither knows it of the other, one
 * compare-exchange of the use decides.  (N2) What was read under a pin in a
 * slot was read before the entry ends: the store that emptied the slot, or the
 * exchange that said GONE, is acquired by the looks of who closes, or by who
 * fills it again, who releases it to them.  (N3) Who is between 1 and 2, and
 * may be stopped there, has at most what it looked up: a slot with another
 * version is passed over.
 *
 * Only a slot's thread writes its entry and its version.  Who gives a pin back
 * in another thread, or after that thread has ended, says GONE, and the slot's
 * thread takes that for free.  The use is a number that no other use of the
 * slot has: an exchange that was meant for one use fails in a later one, so a
 * pin that was given back before, by mistake, ends no other.  A pin that was
 * moved keeps its slot until it is given back.  Two pins of one entry and
 * version are alike: where one of them was moved it does not matter which.
 *
 * Where a thread has no slots, or no free one, it pins in the word; so all do
 * where the kernel has no barrier.
 *
 * Wait-free.  Sources: hazard pointers (Michael, 2004), and readers who show
 * themselves in memory of their own while nobody writes (Dice and Kogan, BRAVO,
 * 2019).
 */
#ifndef SEG_PIN_SLOTS_H
#define SEG_PIN_SLOTS_H

#include "cache_entry.h"

#ifndef PIN_SLOTS
#define PIN_SLOTS 5		/* of a thread, in two lines */
#endif
/* What became of its pin; below the number of the use. */
enum { PIN_MOVED = 1, PIN_GONE = 2, PIN_ENDS = PIN_MOVED | PIN_GONE };

struct pin_slot {
	struct atomic_ptr entry;	/* NULL: it is free */
	struct atomic_u64 version;
	struct atomic_u64 use;
};

struct pin_slots {
	_Alignas(COUNTER_PLACE_BYTES) struct pin_slot slot[PIN_SLOTS];
	uint32_t next;		/* where its thread looks first, in bytes */
};

_Static_assert(sizeof(struct pin_slots) == COUNTER_PLACE_BYTES, "places");

/* By the numbers of threads that own theirs, see counter.h. */
extern struct pin_slots pin_slots[COUNTER_OWNERS];

/* Each slot has a number: its place, as those of threads; 0: a pin that stands
 * in the word. */
static inline struct pin_slot *pin_slot(uint32_t id)
{
	return counter_at(pin_slots, id);
}

/* Of a thread that counts at that place. */
static inline bool pin_slot_is_at(uint32_t id, uint32_t place)
{
	return id - place < COUNTER_PLACE_BYTES;
}

/* Where the thread looks first. */
static inline uint32_t pin_slot_next(uint32_t place)
{
	const struct pin_slots *mine = counter_at(pin_slots, place);

	return place + mine->next;
}

/* By its thread.  One whose pin another thread gave back is found free by
 * pin_slot_other() only. */
static inline bool pin_slot_is_free(uint32_t id)
{
	/* relaxed: its own */
	return !ptr_load_relaxed(&pin_slot(id)->entry);
}

/* Another one of the thread's that is free, from now on the next; 0: none. */
uint32_t pin_slot_other(uint32_t place);

/* Step 1, of a free one. */
static inline void pin_slot_fill(uint32_t id, struct cache_entry *e,
				 uint64_t version)
{
	struct pin_slot *s = pin_slot(id);
	/* relaxed: what GONE says was acquired by pin_slot_other() */
	uint64_t use = u64_load_relaxed(&s->use);

	/* release, all three -> see(): who sees one of these sees those before
	 * it, and what emptied the slot (N2) */
	u64_store_release(&s->use, (use | PIN_ENDS) + 1);
	u64_store_release(&s->version, version);
	ptr_store_release(&s->entry, e);
	compiler_barrier();	/* before the look, see section.h */
}

/* Whether it has the pin of that entry and version, moved or not. */
static inline bool pin_slot_is_of(const struct pin_slot *s,
				  const struct cache_entry *e, uint64_t version)
{
	/* relaxed, both: who has a pin knows what was filled; it stays until
	 * that pin is given back */
	return ptr_load_relaxed(&s->entry) == e &&
	       u64_load_relaxed(&s->version) == version;
}

/* The same, and it stands there still. */
static inline bool pin_slot_has(uint32_t id, const struct cache_entry *e,
				uint64_t version)
{
	const struct pin_slot *s = pin_slot(id);

	/* acquire <- pin_slot_move(): the word has it */
	return pin_slot_is_of(s, e, version) &&
	       !(u64_load_acquire(&s->use) & PIN_ENDS);
}

/* By its thread: it may be filled again. */
static inline void pin_slot_empty(struct pin_slot *s)
{
	ptr_store_release(&s->entry, NULL); /* release -> see() (N2) */
}

/* Where a pin stood that is given back. */
enum pin_slot_had {
	PIN_STOOD_HERE,		/* it is given back */
	PIN_STANDS_IN_WORD,
	PIN_WAS_NONE		/* it was given back before */
};

/* Steps 3 and 4: the pin that a slot of the calling thread has is given back.
 * False: pin_slot_settle() says where it stood. */
static inline bool pin_slot_leave(struct pin_slot *s, struct cache_entry *e,
				  uint64_t version)
{
	const uint64_t open = version << ENTRY_VERSION_SHIFT | ENTRY_OPEN;

	pin_slot_empty(s);
	compiler_barrier();	/* before the looks, as in pin_slot_fill() */
	/* acquire <- entry_unshut(), passed on by who opened it: so it sees
	 * what pin_slot_move() did before; relaxed: behind that */
	return entry_stays_open(open, entry_look(e)) &&
	       !(u64_load_relaxed(&s->use) & PIN_ENDS);
}

enum pin_slot_had pin_slot_settle(struct pin_slot *s);

/* The same by any thread. */
enum pin_slot_had pin_slot_end(struct pin_slot *s, const struct cache_entry *e,
			       uint64_t version);

/* One that was seen in a slot. */
struct slot_pin {
	struct pin_slot *slot;
	struct cache_entry *entry;
	uint64_t version, use;
};

/* By who closes its entry, with a pin more in its word.  False: it is gone. */
bool pin_slot_move(const struct slot_pin *pin);

/* Calls fn for each pin that stands in a slot; wait-free. */
void pin_slots_each(void (*fn)(void *ctx, const struct slot_pin *pin),
		    void *ctx);

#endif
