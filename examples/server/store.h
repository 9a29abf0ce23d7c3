/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The files that are held in memory: one cache of pages under one budget.
 * A file is one page of 1 to SEG_PAGE_PARTS segments that starts with what is
 * known of the file (struct image), its path included, so that nothing grows
 * outside of the budget with the number of files.  The key is a hash of the
 * path with a seed that nobody knows.
 * MT-Safe but for open and close.  Errors: 0 or a negative errno.
 */
#ifndef SERVER_STORE_H
#define SERVER_STORE_H

#include <seg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "file.h"

#define STORE_PATH_MOST 1023
#define STORE_CHECK_MS 1000	/* a change is noticed after so long */

struct store {
	int folder;
	uint64_t seed;
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct seg_cache *cache;
	atomic_uint_fast64_t changed_total;	/* files that were found so */
	atomic_uint_fast64_t checked_total;	/* looks at files in memory */
};

struct store_options {
	const char *root;
	uint64_t budget_bytes;
	seg_log_fn *log;
	enum seg_log_level log_level;
};

int store_open(struct store *store, const struct store_options *options);

/*
 * Gives everything back, and says on standard error what is left, if anything
 * is: then -EBUSY.
 */
int store_close(struct store *store);

/* A file that is in memory and stays there, until store_done(). */
struct stored {
	struct seg_pin pin;
	struct file_stamp stamp;
	bool settled;	/* the stamp stands for these contents only */
};

/*
 * Gets a file from memory, or brings it there.  owner (not 0) is who is named
 * by seg_cache_pins().
 * -ENOENT no such file; -ENOMEM at the limit, and there was nothing to evict;
 * -EFBIG it can't be held here and is to be sent from the file; -ESTALE it
 * changes all the time; -EIO and the like.
 */
int store_get(struct store *store, const char *path, uint64_t owner,
	      struct stored *ret_file);

/* Where bytes of the file are: at most SEG_PAGE_PARTS pieces; how many. */
unsigned store_pieces(const struct stored *file, uint64_t offset,
		      uint64_t bytes, struct iovec *ret_pieces);

void store_done(struct stored *file);

#endif
