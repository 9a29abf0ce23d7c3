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
#define STORE_RECENT 256

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

/*
 * A new fragment becomes known in two steps, with the page leaving the cache
 * between them: first loads bring it, then readers ask for it.  So what they
 * find in the cache is never older than what they asked for: it was loaded
 * before the first step and removed, or after it and is new.
 */
struct page_entry {
	uint32_t revealed;	/* fragments that readers ask for */
	uint32_t fragments;	/* fragments that are loaded; as many or more */
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
	uint64_t recent[STORE_RECENT];	/* keys; what was revealed last */
	uint64_t reveals;
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

/*
 * A page that a reader may ask for, by a random number, and its entry: of
 * four, one was written lately, three are anywhere, but four of five of these
 * in a fifth of the pages, and half of them in one in 250, as such draws are.
 * False: the page is not committed yet.  MT-Safe.
 */
bool store_pick(struct store *store, uint64_t random, uint64_t *ret_key,
		struct page_entry *ret);

/* Makes a fragment that is in the file known to loads.  MT-Safe. */
void store_publish(struct store *store, uint64_t key, uint64_t at,
		   uint32_t bytes);

/* Makes all that loads bring known to readers.  MT-Safe. */
void store_reveal(struct store *store, uint64_t key);

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
 * Reads one fragment, as it is encoded, into a page of one segment.
 * Errors: -ENOMEM; -EBADMSG its checksum or a number in it is wrong; else what
 * read() says.
 */
int fragment_read(struct store *store, struct mem *mem, uint64_t key,
		  const struct page_entry *entry, uint32_t number,
		  struct mem_page **ret_fragment);

/*
 * Adds all records of the fragments to a new page, the caller's.
 * Errors: -ENOMEM; -EBADMSG they do not make up a whole page.
 */
int fragments_combine(struct mem *mem, struct mem_page *const *fragments,
		      uint32_t count, unsigned records,
		      struct mem_page **ret_page);

#endif
