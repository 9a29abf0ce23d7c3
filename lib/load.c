/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See load.h. */
#include "load.h"

#include <string.h>

#include "rcu.h"

void stash_set_count(struct stash *st, int class_index, uint32_t count)
{
	struct magazine *m = &st->magazine[class_index];

	/* relaxed, all: the writer's own */
	u64_store_relaxed(&m->filled, u64_load_relaxed(&m->filled) + count -
					      stash_count(st, class_index));
	u32_store_relaxed(&m->top, stash_bottom(class_index) +
				   count * (uint32_t)sizeof(struct parked));
}

void magazine_bind(struct magazine *m, struct class_pool *cp)
{
	struct class_pool *old = magazine_pool(m);

	if (old) {
		/* relaxed, all: counters */
		uint64_t releases = u64_load_relaxed(&m->releases);
		uint64_t filled = u64_load_relaxed(&m->filled);

		counter_add_many(&old->allocations, filled + releases);
		counter_add_many(&old->releases, releases);
		u64_store_relaxed(&m->releases, 0); /* relaxed: as above */
		u64_store_relaxed(&m->filled, 0); /* relaxed: as above */
	}
	ptr_store_relaxed(&m->pool, cp); /* relaxed: as its readers may */
}

void load_slices(struct load *load, struct stash *st, int class_index,
		 uint32_t most)
{
	uint32_t count = stash_count(st, class_index);
	const struct parked *first = stash_place(st, stash_bottom(class_index));

	most = most < STASH_BATCH ? most : STASH_BATCH;
	load->count = count < most ? count : most;
	memcpy(load->parked, first + 1 + count - load->count,
	       load->count * sizeof(*load->parked));
	if (load->count)
		stash_set_count(st, class_index, count - load->count);
}

void load_claims(struct load *load, struct stash *st)
{
	uint32_t count = stash_claims(st);

	load->claims = count < STASH_BATCH ? count : STASH_BATCH;
	memcpy(load->claim, st->claim + count - load->claims,
	       load->claims * sizeof(*st->claim));
	/* release: as gather.c, stand() */
	u32_store_release(&st->claim_count, count - load->claims);
}

/* ---- back to the regions ---- */

/* A parked slice keeps its region. */
static struct region *region_of(struct allocator *a, const struct parked *at,
				struct region *guess)
{
	if (guess && region_slice_of(guess, at->segment) < guess->slices)
		return guess;
	return region_table_look(&a->table, at->segment, NULL);
}

/* What was never handed out still was not. */
static void put_back(const struct parked *at)
{
	if (at->out == PARKED_FRESH)
		/* relaxed: released by the give */
		u64_store_relaxed(at->generation, 0);
}

/* Those of one region in one step; and takes them out. */
static uint32_t give_first_region(struct allocator *a, struct parked *parked,
				  uint32_t count)
{
	struct region *r = region_of(a, &parked[0], NULL);
	uint32_t slices[STASH_BATCH], given = 0, rest = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (region_of(a, &parked[i], r) == r) {
			put_back(&parked[i]);
			slices[given++] = parked_slice(r, &parked[i]);
		} else {
			parked[rest++] = parked[i];
		}
	}
	class_pool_put_back(r->pool, r, slices, given);
	return rest;
}

void load_give(struct allocator *a, struct parked *parked, uint32_t count)
{
	if (!count)
		return;
	rcu_enter();
	while (count)
		count = give_first_region(a, parked, count);
	rcu_leave();
}
