/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A leaf page: records, one behind the other, in the slot segment (part 0,
 * 64 KiB, growing to 128 and 256 KiB); a head and an id for each record in
 * the id segment (part 1, grown likewise).  With all classes the segments are
 * of any of them at first, and sometimes grow by chance.  A page takes records
 * until it has as many as it may, or its encoding might no longer fit into one
 * segment.
 * Only one thread at a time may use a leaf; a const one may be read by many.
 */
#ifndef INGEST_LEAF_H
#define INGEST_LEAF_H

#include <seg.h>
#include <stddef.h>
#include <stdint.h>

#include "ingest_input.h"
#include "ingest_memory.h"

#define LEAF_SLOTS ((size_t)64 << 10)	/* of a new page */
#define LEAF_RECORDS_MAX 4096u

struct leaf_id {
	uint64_t start;		/* the record's place in the input */
	uint32_t at;		/* its place in the slot segment */
	uint32_t bytes;
};

struct leaf_head {
	uint32_t records;
	uint32_t used;		/* bytes of the slot segment */
	uint64_t fragments;	/* the page's version: what it was made of */
	struct leaf_id ids[];	/* ids[i].at + .bytes = ids[i + 1].at */
};

/*
 * Makes an empty page with room for so many records.
 * Errors: -ENOMEM.
 */
int leaf_create(struct mem *mem, unsigned records, struct mem_page **ret_page);

struct leaf_head *leaf_head(struct mem *mem, const struct mem_page *page);
const char *leaf_slots(struct mem *mem, const struct mem_page *page);

/*
 * Adds a record.
 * Errors: -ENOSPC the page has no room for it and never will; -ENOMEM the
 * page should grow and could not.  The page is as it was.
 */
int leaf_append(struct mem *mem, struct mem_page *page,
		const struct span *record);

/* As the last record had never come. */
void leaf_drop_last(struct mem *mem, struct mem_page *page);

/* A checksum of all the page says: ids and bytes, in their order. */
uint64_t leaf_sum(struct mem *mem, const struct mem_page *page);

/* A checksum of bytes, going on from an earlier one. */
uint64_t sum_bytes(uint64_t sum, const void *data, size_t bytes);

#endif
