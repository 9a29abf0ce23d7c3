/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From an address to its region: a radix tree of two levels over granules of
 * 2 MiB, to which regions are aligned, so that no two share a granule.  A
 * look-up is two dependent loads, whatever the number of regions.
 *
 * Read under RCU: a region leaves the table before it is unmapped, and its
 * memory stays until the readers that may have seen it are gone.  Leaves are
 * never freed before the table is.  Look-up is wait-free, insertion lock-free.
 */
#ifndef SEG_REGION_TABLE_H
#define SEG_REGION_TABLE_H

#include "region.h"

enum {
	TABLE_GRANULE_BITS = 21,
	TABLE_LEAF_BITS = 13,
	TABLE_ROOT_BITS = 14,	/* 48 bits of address in all */
};

struct region_table {
	struct atomic_ptr leaf[1 << TABLE_ROOT_BITS];
	struct atomic_u64 leaf_bytes;
};

struct region_leaf {
	struct atomic_ptr region[1 << TABLE_LEAF_BITS];
};

/* Stands where a region was, to tell "gone" from "never"; it has no slices. */
extern struct region region_gone;

/* What stands for an address: a region, region_gone or NULL; wait-free.
 * Outside of a read section it may be another one's struct by now (R5). */
static inline struct region *region_table_entry(const struct region_table *t,
						const void *address)
{
	uintptr_t granule = (uintptr_t)address >> TABLE_GRANULE_BITS;
	/* Higher bits make it another region's, but none of its slices. */
	uintptr_t root = granule >> TABLE_LEAF_BITS &
			 ((1 << TABLE_ROOT_BITS) - 1);
	/* acquire <- leaf_make() */
	const struct region_leaf *leaf = ptr_load_acquire(&t->leaf[root]);

	if (__builtin_expect(!leaf, 0))
		return NULL;
	/* acquire <- region_table_insert() */
	return ptr_load_acquire(
		&leaf->region[granule & ((1 << TABLE_LEAF_BITS) - 1)]);
}

/* False: no memory for a leaf; nothing was inserted. */
bool region_table_insert(struct region_table *t, struct region *r);
void region_table_remove(struct region_table *t, struct region *r);

/*
 * The region that an address lies in, or NULL; then ret_gone (may be NULL)
 * says whether there was one.  In a read section; the region may be retired.
 */
struct region *region_table_find(const struct region_table *t,
				 const void *address, bool *ret_gone);
/* The same, outside of one. */
struct region *region_table_look(const struct region_table *t,
				 const void *address, bool *ret_gone);

/* Gives the leaves back; there is no region, and nobody uses the table.
 * False: the kernel did not take one; it can be used, or cleared, again. */
bool region_table_clear(struct region_table *t);

#endif
