/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See region_table.h. */
#include "region_table.h"

#include "assert.h"
#include "os.h"
#include "rcu.h"

struct region region_gone = { .slice_bits = 1 };

enum { LEAF_ENTRIES = 1 << TABLE_LEAF_BITS };

_Static_assert(sizeof(void *) == 8, "addresses of 64 bits");

static uintptr_t granule_of(const void *address)
{
	return (uintptr_t)address >> TABLE_GRANULE_BITS;
}

static struct region_leaf *leaf_of(const struct region_table *t,
				   uintptr_t granule)
{
	uintptr_t root = granule >> TABLE_LEAF_BITS;

	if (root >> TABLE_ROOT_BITS)
		return NULL;
	/* acquire <- leaf_make() */
	return ptr_load_acquire(&t->leaf[root]);
}

static struct atomic_ptr *entry_of(struct region_leaf *leaf, uintptr_t granule)
{
	return &leaf->region[granule & (LEAF_ENTRIES - 1)];
}

static struct region_leaf *leaf_make(struct region_table *t, uintptr_t granule)
{
	struct region_leaf *fresh = os_map(sizeof(*fresh), CACHE_LINE);
	void *found = NULL;

	if (!fresh)
		return NULL;
	/* acq_rel: release -> leaf_of(); acquire <- the one that was first */
	if (ptr_cas_strong_acq_rel(&t->leaf[granule >> TABLE_LEAF_BITS], &found,
				   fresh)) {
		/* relaxed: counter */
		u64_add_relaxed(&t->leaf_bytes, sizeof(*fresh));
		return fresh;
	}
	os_unmap(fresh, sizeof(*fresh));
	return found;
}

static bool make_leaves(struct region_table *t, uintptr_t first, uintptr_t last)
{
	if (last >> (TABLE_LEAF_BITS + TABLE_ROOT_BITS))
		return false;
	for (uintptr_t g = first; g <= last; g++)
		if (!leaf_of(t, g) && !leaf_make(t, g))
			return false;
	return true;
}

bool region_table_insert(struct region_table *t, struct region *r)
{
	uintptr_t first = granule_of(region_base(r));
	uintptr_t last = granule_of(region_base(r) + r->bytes - 1);

	if (!make_leaves(t, first, last))
		return false;
	for (uintptr_t g = first; g <= last; g++)
		/* release -> region_table_find(): the region's fields */
		ptr_store_release(entry_of(leaf_of(t, g), g), r);
	return true;
}

void region_table_remove(struct region_table *t, struct region *r)
{
	uintptr_t last = granule_of(region_base(r) + r->bytes - 1);

	for (uintptr_t g = granule_of(region_base(r)); g <= last; g++)
		/* relaxed: the grace period that follows orders it */
		ptr_store_relaxed(entry_of(leaf_of(t, g), g), &region_gone);
}

struct region *region_table_look(const struct region_table *t,
				 const void *address, bool *ret_gone)
{
	struct region *r = region_table_entry(t, address);

	if (ret_gone)
		*ret_gone = r == &region_gone;
	if (!r || r == &region_gone)
		return NULL;
	return (size_t)((const char *)address - region_base(r)) < r->bytes ?
		       r : NULL;
}

struct region *region_table_find(const struct region_table *t,
				 const void *address, bool *ret_gone)
{
	seg_assert(rcu_inside());
	return region_table_look(t, address, ret_gone);
}

bool region_table_clear(struct region_table *t)
{
	for (size_t i = 0; i < 1 << TABLE_ROOT_BITS; i++) {
		/* relaxed: nobody else is there */
		struct region_leaf *leaf = ptr_load_relaxed(&t->leaf[i]);

		if (!leaf)
			continue;
		if (os_unmap(leaf, sizeof(*leaf)))
			return false;
		/* relaxed, both: as above */
		ptr_store_relaxed(&t->leaf[i], NULL);
		u64_sub_relaxed(&t->leaf_bytes, sizeof(*leaf));
	}
	return true;
}
