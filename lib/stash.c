/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See stash.h. */
#include "stash.h"

#include <errno.h>

#include "os.h"

void stashes_init(struct stashes *all, struct allocator *a, size_t tail_bytes)
{
	all->allocator = a;
	all->tail_bytes = tail_bytes;
	all->slab.object_bytes = sizeof(struct stash);
	all->slab.base_bits = 1;	/* each is large */
	/* relaxed, both: nobody else is there */
	u32_store_relaxed(&all->slot, THREAD_SLOTS);
	u32_store_relaxed(&all->one_node_slot, THREAD_SLOTS);
}

void stashes_begin(struct stashes *all, void (*end)(void *stash))
{
	uint32_t slot = THREAD_SLOTS;

	if (sections_begin())
		slot = thread_slot_claim(end);
	/* relaxed, both: by contract nobody is in a call */
	u32_store_relaxed(&all->slot, slot);
	u32_store_relaxed(&all->one_node_slot, slot);
}

void stashes_meet_nodes(struct stashes *all)
{
	/* relaxed, both: the slices go from hand to hand by what orders them */
	if (u32_load_relaxed(&all->one_node_slot) != THREAD_SLOTS)
		u32_store_relaxed(&all->one_node_slot, THREAD_SLOTS);
}

void stashes_leave(struct stashes *all)
{
	uint32_t used = stashes_used(all);

	/* relaxed, all: as stashes_begin() */
	thread_slot_drop(u32_load_relaxed(&all->slot));
	u32_store_relaxed(&all->slot, THREAD_SLOTS);
	u32_store_relaxed(&all->one_node_slot, THREAD_SLOTS);
	for (uint32_t number = 1; number <= used; number++) {
		struct stash *st = stash_at(all, number);

		/* relaxed, both: as above */
		if (st && u32_load_relaxed(&st->used)) {
			u32_store_relaxed(&st->used, 0);
			slab_put(&all->slab, &st->item);
		}
	}
}

bool stashes_clear(struct stashes *all)
{
	u64_store_relaxed(&all->backed, 0); /* relaxed: nobody else is there */
	return slab_clear(&all->slab);
}

/* ---- one for each thread ---- */

/* There may be more numbers than fit.  Keeps errno: a release may need one. */
static struct stash *get(struct stashes *all)
{
	int saved = errno;
	struct stash *st = (struct stash *)slab_get(&all->slab);

	errno = saved;
	if (st && st->item.number >= STASH_NUMBERS) {
		slab_put(&all->slab, &st->item);
		return NULL;
	}
	return st;
}

struct stash *stash_make(struct stashes *all)
{
	uint32_t slot = u32_load_relaxed(&all->slot); /* relaxed: as above */
	struct stash *st = stash_of(all);

	if (st || slot == THREAD_SLOTS)
		return st;
	st = get(all);
	if (!st)
		return NULL;
	st->allocator = all->allocator;
	st->number = st->item.number + 1;
	st->last = &st->magazine[0];
	for (int c = 0; c < SEG_CLASSES; c++)
		/* relaxed, both: as long as it is 0, nobody has it but us */
		if (!u32_load_relaxed(&st->magazine[c].top))
			u32_store_relaxed(&st->magazine[c].top,
					  stash_bottom(c));
	st->tail_bytes = all->tail_bytes;
	if (!thread_slot_set(slot, st)) {
		slab_put(&all->slab, &st->item);
		return NULL;
	}
	u32_store_relaxed(&st->used, 1); /* relaxed: a hint to others */
	u32_add_relaxed(&all->busy, 1); /* relaxed: a hint */
	return st;
}

struct stash *stash_at(struct stashes *all, uint32_t number)
{
	return (struct stash *)slab_at(&all->slab, number - 1);
}

uint32_t stashes_used(struct stashes *all)
{
	uint32_t used = slab_used(&all->slab);

	return used < STASH_NUMBERS ? used : STASH_NUMBERS;
}

/* ---- room ---- */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static bool reserve(struct stashes *all, uint64_t bytes, uint64_t most)
{
	/* relaxed: a number, that orders nothing */
	uint64_t room = u64_load_relaxed(&all->room_bytes);

	do {
		if (room + bytes > most)
			return false;
		/* relaxed: as above; retries only when another thread's
		 * succeeded */
	} while (!u64_cas_weak_relaxed(&all->room_bytes, &room, room + bytes));
	return true;
}

/* What one thread may have of a class, so that there is some for all. */
static uint64_t part_of(struct stashes *all, uint64_t most)
{
	uint32_t busy = u32_load_relaxed(&all->busy); /* relaxed: a hint */

	return busy ? most / busy : most;
}

bool stash_grow(struct stashes *all, struct stash *st, int class_index,
		size_t slice_bytes, uint64_t limit_bytes)
{
	struct magazine *m = &st->magazine[class_index];
	uint64_t most = all->most_bytes ? all->most_bytes :
					  limit_bytes / STASH_ROOM_SHARE;
	uint64_t room = m->room ? 2 * (uint64_t)m->room : STASH_ROOM_FIRST;

	room = least(room, STASH_MOST);
	room = least(room, part_of(all, most) / slice_bytes);
	if (room <= m->room ||
	    !reserve(all, (room - m->room) * slice_bytes, most))
		return false;
	m->room = (uint32_t)room;
	m->end = stash_bottom(class_index) +
		 m->room * (uint32_t)sizeof(struct parked);
	if (m->room > m->most_room) {
		/* relaxed: a number */
		u64_add_relaxed(&all->backed, m->room - m->most_room);
		m->most_room = m->room;
	}
	return true;
}

void stash_drop_room(struct stashes *all, struct stash *st, int class_index,
		     size_t slice_bytes)
{
	struct magazine *m = &st->magazine[class_index];

	/* relaxed: as reserve() */
	u64_sub_relaxed(&all->room_bytes, m->room * slice_bytes);
	m->room = 0;
	m->end = 0;
}

/* As many whole pages as all with room began on. */
static size_t backed_bytes(const struct magazine *m)
{
	size_t bytes = offsetof(struct places, place) +
		       (1 + (size_t)m->most_room) * sizeof(struct parked);

	return (bytes + STASH_PAGE - 1) / STASH_PAGE * STASH_PAGE;
}

/* Then they hold zeros: none ever was here.  A page stays, so that who uses
 * little now and then has no page fault each time. */
void stash_discard(struct stashes *all, struct stash *st, int class_index)
{
	struct magazine *m = &st->magazine[class_index];
	size_t bytes = backed_bytes(m);

	if (bytes <= STASH_PAGE || os_discard(&st->places[class_index], bytes))
		return;
	u64_sub_relaxed(&all->backed, m->most_room); /* relaxed: a number */
	m->most_room = 0;
}

/* ---- what can be asked ---- */

/* What was filled in is parked or was taken; so was what was released. */
static uint64_t allocations(const struct magazine *m, uint64_t releases,
			    uint64_t count)
{
	/* relaxed: a number; the thread may be at it */
	int64_t sum = (int64_t)(u64_load_relaxed(&m->filled) + releases -
				count);

	return sum > 0 ? (uint64_t)sum : 0;
}

static void add_claims(struct stash_sum *sum, const struct claim *claim,
		       uint32_t count, const struct class_pool *cp)
{
	for (uint32_t i = 0; i < count; i++) {
		/* relaxed: acquired with their number, or their parcel */
		struct region *r = ptr_load_relaxed(&claim[i].region);

		sum->parked += r->pool == cp;
		sum->releases += r->pool == cp;
	}
}

static void add_inbox(struct stash_sum *sum, const struct inbox *in,
		      const struct class_pool *cp)
{
	/* relaxed: only where to look */
	uint32_t full = u32_load_relaxed(&in->parcels) >> INBOX_PARCELS;

	for (; full; full &= full - 1) {
		const struct parcel *p = &in->parcel[__builtin_ctz(full)];

		/* acquire <- inbox.c, move(): the claims */
		uint32_t count = u32_load_acquire(&p->count);

		add_claims(sum, p->claim, count, cp);
	}
}

static void add(struct stash_sum *sum, struct stash *st,
		const struct class_pool *cp, int class_index)
{
	struct magazine *m = &st->magazine[class_index];
	/* relaxed, all but one: a moment's numbers */
	uint64_t count = stash_count(st, class_index);
	uint64_t releases = u64_load_relaxed(&m->releases);
	/* acquire <- gather.c, stand() */
	uint32_t claims = u32_load_acquire(&st->claim_count);

	if (ptr_load_relaxed(&m->pool) == cp) { /* relaxed: as above */
		sum->parked += count;
		sum->releases += releases;
		sum->allocations += allocations(m, releases, count);
	}
	add_claims(sum, st->claim, claims, cp);
	add_inbox(sum, &st->inbox, cp);
}

struct stash_sum stashes_sum(struct stashes *all, const struct class_pool *cp,
			     int class_index)
{
	struct stash_sum sum = { 0 };
	uint32_t used = stashes_used(all);

	for (uint32_t number = 1; number <= used; number++) {
		struct stash *st = stash_at(all, number);

		if (st)
			add(&sum, st, cp, class_index);
	}
	return sum;
}

/* What was not used of the magazines, or not for long, has no backing; the rest
 * keeps it, when its thread has ended, too. */
uint64_t stashes_bytes(struct stashes *all)
{
	uint64_t each = offsetof(struct stash, places);

	return stashes_used(all) * each +
	       /* relaxed: a number */
	       u64_load_relaxed(&all->backed) * sizeof(struct parked);
}
