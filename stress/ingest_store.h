/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The page store: a file of fragments, and the directory in memory that says
 * which fragments make up a page.  A page is written in one to three
 * fragments, each by a commit of its own, each with the records that are new.
 * A fragment is a head, the ids (two variable-length numbers for each) and
 * the records' bytes, with a checksum of itself, and one of the whole page as
 * it is with this fragment.
 */
#ifndef INGEST_STORE_H
#define INGEST_STORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ingest_memory.h"

#define FRAGMENTS_MAX 3
#define FRAGMENT_ID_MAX 13	/* bytes of an encoded id, at the most */

struct fragment_head {
	uint32_t magic;
	uint32_t number;	/* 0 to FRAGMENTS_MAX - 1 */
	uint64_t key;
	uint32_t records;
	uint32_t id_bytes;
	uint32_t slot_bytes;
	uint32_t page_records;	/* of the page with all fragments up to this */
	uint64_t page_sum;
	uint64_t sum;		/* of all of the fragment, this being 0 */
};

struct page_entry {
	uint32_t fragments;
	uint32_t bytes[FRAGMENTS_MAX];
	uint64_t at[FRAGMENTS_MAX];
};

struct store {
	int fd;
	bool own;		/* made by us, without a name */
	const char *name;
	uint64_t end;		/* the committer's */
	uint64_t peak;		/* the most that end ever was */
	pthread_mutex_t lock;	/* protects the rest; innermost */
	struct page_entry *entries;
	uint64_t pages;
	uint64_t capacity;
};

/* The most that the fragment of such a page takes. */
static inline size_t fragment_bound(size_t records, size_t slot_bytes)
{
	return sizeof(struct fragment_head) + records * FRAGMENT_ID_MAX +
	       slot_bytes;
}

/*
 * NULL: a file of its own that is gone afterwards.  Errors: what open() says.
 * store_close() is due in either case.
 */
int store_open(struct store *store, const char *name);
void store_close(struct store *store);

/* Forgets all pages.  No other thread may use the store. */
void store_reset(struct store *store);

/* A number for a new page.  Errors: -ENOMEM.  MT-Safe. */
int store_new_page(struct store *store, uint64_t *ret_key);

uint64_t store_pages(struct store *store);

/* The fragments that are committed so far, maybe none.  MT-Safe. */
void store_entry(struct store *store, uint64_t key, struct page_entry *ret);

/* Makes a fragment known, when it is in the file.  MT-Safe. */
void store_publish(struct store *store, uint64_t key, uint64_t at,
		   uint32_t bytes);

/* Writes all of the buffer at the end.  Errors: what write() says. */
int store_append(struct store *store, const void *buffer, size_t bytes);

/*
 * Encodes the modified page of a pair into the buffer, which has room for
 * SEG_MAX_BYTES.  Gives the bytes used.
 */
size_t fragment_encode(struct mem *mem, uint64_t key, uint32_t number,
		       const struct mem_page *complete,
		       const struct mem_page *modified, char *buffer);

/*
 * Loads a page: each fragment into a segment of its own, then all records
 * together into a new page, which is the caller's.
 * Errors: -ENOMEM, nothing is held; -EBADMSG a checksum or a number in the
 * fragments is wrong; -EFAULT a segment was not taken back; else what read()
 * says.
 */
int store_load(struct store *store, struct mem *mem, uint64_t key,
	       const struct page_entry *entry, unsigned records,
	       struct mem_page **ret_page);

#endif
