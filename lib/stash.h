/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A stash: the slices that a thread keeps at hand, in a magazine for each class
 * (after J. Bonwick and J. Adams, Magazines and Vmem, USENIX 2001), so that
 * allocate and release touch no line that others write, and need no locked
 * operation.  Here are the stashes and the two fast paths; fill.c goes to the
 * regions, gather.c empties stashes from outside, claim.h and inbox.h are about
 * slices that another thread releases.
 *
 * A parked slice is off its region's list and not handed out: its generation is
 * even.  So its region can't retire, it stays charged, and its release a second
 * time is found out as of any free slice.  A slice that comes from a stash has
 * that for its owner until it is given back to its region.
 *
 * Only the thread touches its stash, in a section (section.h); or, while it is
 * `closed`, who closed it, once the section was seen left.  Then the thread
 * goes to the regions itself, so nobody waits for anybody.
 *
 * Guarantees:
 * (M1) A parked slice is in one stash.  It gets there from a list of its region
 *      (R1), by its owner's release or by a won claim; each has one winner.
 * (M2) Of the releases of a slice that has an owner one wins.  The owner's
 *      looks at the generation and changes it in one section, by plain stores;
 *      others claim first, and wait for that section: see claim.h.
 * (M3) What a thread parks is found by whoever waits for it: parking, then the
 *      end of the section, then a look for those who wait; they count
 *      themselves in before they close the stash.
 * (M4) All stashes together have room for no more bytes than that: room is
 *      reserved in one atomic number first.
 * (M5) A thread that stops in a section, or while it empties stashes, keeps
 *      what is in them until it goes on; nothing waits for it for long.
 * Why no double hand-out: see (M1); and the generation shows it (seg_die()).
 * Where a slice was taken from, its hand-out is written down.  What was taken
 * last mostly comes back first: if it stands above the top, and its generation
 * is still that one, it is this stash's, as no generation of a slice comes
 * twice (R5), and nothing has to be looked up.
 * Progress: both fast paths are wait-free.
 */
#ifndef SEG_STASH_H
#define SEG_STASH_H

#include "assert.h"
#include "poison.h"
#include "region_table.h"
#include "section.h"
#include "seg.h"
#include "slab.h"
#include "thread_slots.h"

struct allocator;
struct class_pool;

/* The explorer makes it small. */
#ifndef STASH_MOST
#define STASH_MOST 1024	/* slices of a class ... */
#define STASH_BATCH 64	/* ... that come and go so many at a time */
#endif
#ifndef STASH_CLAIMS
#define STASH_CLAIMS 512
#define INBOX_PARCELS 16
#define PARCEL_LEAST 4		/* claims that are worth one */
#define INBOX_SHARE 32		/* of the limit is brought at most */
#endif
#ifndef STASH_PAGE
#define STASH_PAGE 4096		/* that can be given back */
#endif
enum {
	STASH_NUMBERS = UINT16_MAX,
	STASH_ROOM_FIRST = 8,
	STASH_ROOM_SHARE = 8,	/* of the limit is room at most */
	STASH_CLAIM_SHARE = 64,	/* so much is claimed at a time, about */
};

/* A slice that was taken, or a segment of NULL. */
struct taken {
	void *segment;
	bool fresh;		/* never handed out: still zero */
};

/* The checkers are told that it is the caller's. */
static inline void taken_show(const struct taken *t, size_t slice_bytes)
{
	if (t->fresh)
		poison_handed_out_zero(t->segment, slice_bytes);
	else
		poison_handed_out(t->segment, slice_bytes);
}

struct parked {
	void *segment;		/* NULL: none ever was here */
	struct atomic_u64 *generation;
	uint64_t out;		/* the hand-out with which it left; or: */
};
#define PARKED_USED UINT64_MAX		/* it was handed out before */
#define PARKED_FRESH (UINT64_MAX - 1)	/* it never was */

/* The slices of one pool.  Others may read the figures, but not the room. */
struct magazine {
	_Alignas(CACHE_LINE) struct atomic_ptr pool;	/* changes while it is
							 * empty */
	/* The places of the last slice and of the last there is room for, in
	 * bytes from the first of the stash; with no room the latter is 0. */
	struct atomic_u32 top;
	uint32_t end;
	uint32_t room;
	uint32_t most_room;		/* it had since they were last given
					 * back: that is backed */
	struct atomic_u64 releases;	/* so far */
	struct atomic_u64 filled;	/* less those that were taken out */
	uint64_t seen;			/* the keeper's: see gather.c */
};

/* A slice that another stash owns, released by this thread. */
struct claim {
	struct atomic_ptr region;
	uint32_t slice;
	uint32_t owner;
	uint64_t generation;	/* as it was claimed */
};

/* Claims that others made, brought to the slices' owner: see inbox.h. */
struct parcel {
	struct atomic_u32 count;
	uint64_t bytes;
	struct claim claim[STASH_BATCH];
};
struct inbox {
	/* A bit of each that is reserved, and above these of each that is
	 * full. */
	_Alignas(CACHE_LINE) struct atomic_u32 parcels;
	_Alignas(CACHE_LINE) struct parcel parcel[INBOX_PARCELS];
};

/* Of a class: one that stays empty, and so says that nothing is left, then the
 * slices; and one for who looks above the last.  On pages of its own, so that
 * they go as a whole: half a place would be half a slice. */
struct places {
	/* The first stand elsewhere in a page than what the fast paths write of
	 * the stash, or a processor takes the one for the other at first. */
	_Alignas(STASH_PAGE) char apart[11 * CACHE_LINE];
	struct parked place[STASH_MOST + 2];
};

struct stash {
	struct slab_item item;
	struct section section;
	struct atomic_u32 closed;
	uint32_t number;		/* as an owner: the item's + 1 */
	struct magazine *last;		/* that it took from */
	size_t tail_bytes;		/* as the allocator's */
	struct allocator *allocator;
	struct atomic_u32 claim_count;
	struct atomic_u32 used;		/* a thread's: 1 */
	struct magazine magazine[SEG_CLASSES];
	struct inbox inbox;
	struct claim claim[STASH_CLAIMS];
	struct places places[SEG_CLASSES];
};

/* All of an allocator. */
struct stashes {
	struct slab slab;
	struct atomic_u32 slot;		/* thread_slots.h's */
	struct atomic_u32 one_node_slot;	/* the same, or none */
	struct allocator *allocator;	/* whose they are */
	size_t tail_bytes;
	uint64_t most_bytes;		/* 0: a share of the limit; a test's */
	struct atomic_u64 room_bytes;
	struct atomic_u64 brought_bytes;	/* to inboxes */
	struct atomic_u64 backed;	/* places: the sum of most_room */
	struct atomic_u32 busy;		/* threads, at the last look */
	struct atomic_u32 strays;	/* claims that nobody has in hand */
	struct atomic_u32 lost;		/* of these: not yet reported */
};

/* The calling thread's, or NULL. */
static inline struct stash *stash_of(const struct stashes *all)
{
	/* relaxed: only where each thread's is */
	return thread_slot_get(u32_load_relaxed(&all->slot));
}

/* The same, as long as no slices of several nodes are handed out: who has one
 * gets NULL, as it came with the news. */
static inline struct stash *stash_of_one_node(const struct stashes *all)
{
	/* relaxed: see above */
	return thread_slot_get(u32_load_relaxed(&all->one_node_slot));
}

/* Whether it is the owner's now.  In a section. */
static inline bool stash_is_open(const struct stash *st)
{
	/* acquire <- gather.c, reopen() */
	return __builtin_expect(!u32_load_acquire(&st->closed), 1);
}

static inline struct parked *stash_place(struct stash *st, uint32_t at)
{
	return (void *)((char *)st->places[0].place + at);
}

/* The place below a class's first slice. */
static inline uint32_t stash_bottom(int class_index)
{
	return (uint32_t)class_index * (uint32_t)sizeof(struct places);
}

/* The owner's, or a figure. */
static inline uint32_t stash_count(const struct stash *st, int class_index)
{
	/* relaxed: as its reader may */
	uint32_t top = u32_load_relaxed(&st->magazine[class_index].top);

	/* 0: no thread has had it yet */
	return top ? (top - stash_bottom(class_index)) /
			     (uint32_t)sizeof(struct parked) : 0;
}

/* A parked slice becomes the caller's. */
static inline struct taken stash_hand_out(struct parked *at)
{
	struct taken t = { at->segment, at->out == PARKED_FRESH };
	struct atomic_u64 *place = at->generation;
	/* relaxed: the owner's alone */
	uint64_t generation = u64_load_relaxed(place);

	if (__builtin_expect(generation & 1, 0))
		seg_die("parked slice is handed out: memory corrupted");
	at->out = generation + 1;
	/* release -> pool_find_out(): the slice's owner */
	u64_store_release(place, generation + 1);
	return t;
}

/* A slice of that pool, or of whichever it has if that is NULL. */
static inline __attribute__((always_inline)) struct taken
stash_take(struct stash *st, const struct class_pool *cp, int class_index)
{
	struct magazine *m = &st->magazine[class_index];
	struct taken t = { .segment = NULL };
	struct parked *place;
	uint32_t top;

	section_enter(&st->section);
	/* Before all else: what is loaded earlier may be of another's time.
	 * relaxed, both: our own */
	if (__builtin_expect(stash_is_open(st), 1) &&
	    (!cp || ptr_load_relaxed(&m->pool) == cp)) {
		top = u32_load_relaxed(&m->top);
		place = stash_place(st, top);
		if (__builtin_expect(place->segment != NULL, 1)) {
			t = stash_hand_out(place);
			st->last = m;
			/* relaxed: our own */
			u32_store_relaxed(&m->top, top - (uint32_t)
						   sizeof(*place));
		}
	}
	section_leave(&st->section);
	return t;
}

/* Puts a slice above the top.  In a section, open. */
static inline void stash_push(struct stash *st, struct magazine *m,
			      uint32_t top, void *segment,
			      struct atomic_u64 *generation)
{
	top += (uint32_t)sizeof(struct parked);
	*stash_place(st, top) = (struct parked){ segment, generation,
						 PARKED_USED };
	u32_store_relaxed(&m->top, top); /* relaxed: our own */
}

static inline uint32_t owner_of(const struct region *r, uint32_t slice)
{
	/* relaxed: acquired with the generation */
	return u16_load_relaxed(&r->owners[slice]);
}

/* Whether it is the hand-out of a handle, if there is one. */
static inline bool is_hand_out(const struct region *r, uint64_t generation,
			       const struct seg_handle *handle)
{
	return !handle || (handle->generation == generation &&
			   handle->region == region_serial(r));
}

/* The owner's release, in a section.  Of those who have the same handle one
 * wins, and all know at once: the others claim, by a compare-exchange, too. */
static inline bool stash_disown(struct atomic_u64 *at, uint64_t generation,
				const struct seg_handle *handle)
{
	if (handle)
		/* relaxed: nobody takes it from here but this thread, or by
		 * `closed` */
		return u64_cas_strong_relaxed(at, &generation, generation + 1);
	u64_store_relaxed(at, generation + 1); /* relaxed: as above */
	return true;
}

/* From before the slice can be taken again: its user's last access. */
static inline void stash_hide(const struct stash *st, const struct magazine *m,
			      void *segment)
{
	poison_released(segment, (size_t)SEG_MIN_BYTES << (m - st->magazine),
			st->tail_bytes);
}

static inline void magazine_count_release(struct magazine *m)
{
	/* relaxed, both: our own */
	u64_store_relaxed(&m->releases, u64_load_relaxed(&m->releases) + 1);
}

/* What was taken last goes back to where it was.  In a section, open. */
static inline bool stash_put_back(struct stash *st, void *segment)
{
	struct magazine *m = st->last;
	/* relaxed: our own */
	uint32_t top = u32_load_relaxed(&m->top) +
		       (uint32_t)sizeof(struct parked);
	const struct parked *at = stash_place(st, top);
	struct atomic_u64 *place;
	uint64_t out;

	if (at->segment != segment)
		return false;
	place = at->generation;
	out = at->out;
	/* relaxed: it is what this thread stored, or something else */
	if (u64_load_relaxed(place) != out || top > m->end)
		return false;
	stash_hide(st, m, segment);
	u64_store_relaxed(place, out + 1); /* relaxed: (M2) */
	u32_store_relaxed(&m->top, top); /* relaxed: our own */
	magazine_count_release(m);
	return true;
}

/* In a section, open, of any segment.  As below. */
static inline __attribute__((always_inline)) bool
stash_park(struct stash *st, const struct region_table *t, void *segment,
	   const struct seg_handle *handle, struct class_pool **ret_pool)
{
	struct region *r = region_table_entry(t, segment);
	struct magazine *m;
	struct atomic_u64 *at;
	uint64_t generation, slice;
	uint32_t top;

	if (__builtin_expect(!r, 0))
		return false;
	slice = region_slice_of(r, segment);
	if (__builtin_expect(slice >= r->slices, 0))
		return false;
	m = (void *)((char *)st->magazine + r->magazine_at);
	at = &r->generations[slice];
	/* acquire <- stash_hand_out(), region_hand_out() */
	generation = u64_load_acquire(at);
	if (__builtin_expect(!generation_is_out(generation) ||
			     owner_of(r, (uint32_t)slice) != st->number, 0))
		return false;
	/* relaxed: our own, as is the pool below */
	top = u32_load_relaxed(&m->top);
	if (__builtin_expect(top >= m->end, 0) ||
	    (ret_pool && ptr_load_relaxed(&m->pool) != r->pool) ||
	    !is_hand_out(r, generation, handle) ||
	    !stash_disown(at, generation, handle))
		return false;
	stash_hide(st, m, segment);
	stash_push(st, m, top, segment, at);
	magazine_count_release(m);
	if (ret_pool)
		*ret_pool = r->pool;
	return true;
}

/*
 * Parks a segment of this stash's own, of that handle if it is not NULL; false:
 * it is none, or there is no room, and nothing was done.
 * Where there are several nodes, what is parked is of one of them, and whose it
 * was is told: ret_pool.  Else all regions of a class are of one pool: NULL.
 */
static inline __attribute__((always_inline)) bool
stash_release(struct stash *st, const struct region_table *t,
	      void *segment, const struct seg_handle *handle,
	      struct class_pool **ret_pool)
{
	bool done;

	section_enter(&st->section);
	done = stash_is_open(st) &&
	       ((!handle && !ret_pool && stash_put_back(st, segment)) ||
		stash_park(st, t, segment, handle, ret_pool));
	section_leave(&st->section);
	return done;
}

/* ---- stash.c ---- */

/* No thread has one yet, nor may. */
void stashes_init(struct stashes *all, struct allocator *a, size_t tail_bytes);
/* From now on they may, but where there is no barrier of the kernel's; `end` is
 * called with that of a thread that ends. */
void stashes_begin(struct stashes *all, void (*end)(void *stash));
/* By who is about to hand out slices of several nodes. */
void stashes_meet_nodes(struct stashes *all);
/* From now on no thread has one; waits for threads that end. */
void stashes_leave(struct stashes *all);
/* Gives the memory back; no slice is parked.  As slab_clear(). */
bool stashes_clear(struct stashes *all);

/* The calling thread's, made if need be; NULL: no memory, there are too
 * many, or none at all.  A thread's first call takes a lock for a moment. */
struct stash *stash_make(struct stashes *all);

/* By its number as an owner, 1 to stashes_used(). */
struct stash *stash_at(struct stashes *all, uint32_t number);
uint32_t stashes_used(struct stashes *all);

uint64_t stashes_bytes(struct stashes *all);

/* What the stashes have of a pool. */
struct stash_sum {
	uint64_t parked, allocations, releases;
};
struct stash_sum stashes_sum(struct stashes *all, const struct class_pool *cp,
			     int class_index);

/* Room for one more slice, if the thread may have it: doubles it, from 8 on.
 * In a section, open. */
bool stash_grow(struct stashes *all, struct stash *st, int class_index,
		size_t slice_bytes, uint64_t limit_bytes);
/* Of a magazine that is empty. */
void stash_drop_room(struct stashes *all, struct stash *st, int class_index,
		     size_t slice_bytes);
/* Gives the backing of its places back, if that is more than a page.  By who
 * closed it, of a magazine that is empty and has no room. */
void stash_discard(struct stashes *all, struct stash *st, int class_index);

#endif
