/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The page of figures that a process publishes: a file, mapped by the process
 * that writes it (publish.h) and by any that reads it (segstat).
 *
 *   page   = sequence, body
 *   body   = head, records; whole 64-bit words
 *   record = its head, then public structs: of a budget seg_budget_stats; of a
 *            pool seg_pool_stats, in sum and then for each class; of a cache
 *            seg_cache_stats.  Each begins with its size.
 *
 * One thread writes, while any number reads.  The sequence is odd while the
 * body is being written, and another number afterwards.
 * Guarantees: (S1) a read that says so gives the body of one write, whole;
 * (S2) who reads holds up nobody.  A write is wait-free, and so is a read.
 * Why (S1): the words are stored with release after the odd number.  Who loads
 * one of them (acquire) sees that number, or a later one, when it looks at the
 * sequence again.  And who loads the even number (acquire) sees all that was
 * written before it.
 */
#ifndef SEG_PUBLISHED_H
#define SEG_PUBLISHED_H

#include <stddef.h>
#include <stdint.h>

#include "atomic.h"

#define PUBLISHED_DIRECTORY "/dev/shm"
#define PUBLISHED_PREFIX "libseg."
/* "libseg", and the version of the layout in the first two bytes. */
#define PUBLISHED_MAGIC (UINT64_C(0x67657362696c) << 16 | 1)

enum {
	PUBLISHED_BYTES = 128 * 1024,
	PUBLISHED_WORDS = PUBLISHED_BYTES / 8 - 1,
	PUBLISHED_NAME_BYTES = 32,
	PUBLISHED_PATH_BYTES = 256,
};

enum published_kind {
	PUBLISHED_BUDGET = 1,
	PUBLISHED_POOL = 2,
	PUBLISHED_CACHE = 3,
};

/* The words of a body may be looked at as these. */
struct __attribute__((may_alias)) published_head {
	uint64_t magic;
	uint64_t words;		/* of the body */
	uint64_t process;	/* its number ... */
	uint64_t process_start;	/* ... and os_process_start() of it */
	uint64_t written_ns;	/* of os_now_ns() */
	uint64_t writes_total;
	uint64_t records;
	uint64_t omitted;	/* objects that found no room */
	char version[16];	/* seg_version() */
};

struct __attribute__((may_alias)) published_record {
	uint32_t words;		/* of the record, this head included */
	uint32_t kind;		/* enum published_kind */
	uint64_t id;		/* counts the objects of the process */
	uint64_t budget;	/* the id of what it is charged to, gives back
				   to or is a child of; 0: none */
	char name[PUBLISHED_NAME_BYTES];
};

struct published_page {
	struct atomic_u64 sequence;
	struct atomic_u64 word[PUBLISHED_WORDS];
};

/* The head of the body says how many words there are. */
void published_write(struct published_page *page, const uint64_t *body);

/*
 * One try: body has PUBLISHED_WORDS.  0; -EAGAIN it was just being written, or
 * never was; -EPROTO it is no page, or of another version.
 */
int published_read(const struct published_page *page, uint64_t *body);

/* The file of a process of this namespace. */
void published_path(char path[PUBLISHED_PATH_BYTES], long process);

/* Where all files are; PUBLISHED_DIRECTORY, but for tests. */
extern const char *published_directory;

#endif
