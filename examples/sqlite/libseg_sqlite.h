/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A page cache for SQLite over libseg: all connections of the process share
 * one budget.  For programs that link libseg-sqlite; one that is only started
 * with LD_PRELOAD=libseg-sqlite.so needs nothing of this.
 *
 * SQLite's own rule holds: it is set up before sqlite3_initialize(), or after
 * sqlite3_shutdown(), while no other thread uses SQLite.
 */
#ifndef LIBSEG_SQLITE_H
#define LIBSEG_SQLITE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#define LIBSEG_SQLITE_API __attribute__((visibility("default")))
#else
#define LIBSEG_SQLITE_API
#endif

struct libseg_sqlite_options {
	size_t size;		/* sizeof(struct libseg_sqlite_options) */
	uint64_t budget_bytes;	/* of all page caches; 1 MiB to 8 TiB, in
				   4 KiB steps; 0: 64 MiB */
	int wait_ms;		/* how long a page that must be had waits for
				   others' pins; 0: 500; -1: not at all */
};

/*
 * Makes SQLite use it from its next initialization on, until
 * libseg_sqlite_remove().  NULL: all defaults.  Zero in an option means its
 * default.
 * An SQLite result code: SQLITE_MISUSE SQLite is initialized already (what a
 * preloaded module has set up may be set up anew before that), or the options
 * are of another size; SQLITE_RANGE one is out of its range.
 */
LIBSEG_SQLITE_API int
libseg_sqlite_install(const struct libseg_sqlite_options *options);

/* SQLite's own page cache again; after sqlite3_shutdown().  As above. */
LIBSEG_SQLITE_API int
libseg_sqlite_remove(void);

struct libseg_sqlite_stats {
	size_t size;			/* sizeof(struct libseg_sqlite_stats) */
	uint64_t budget_bytes;
	uint64_t charged_bytes;		/* never above the budget */
	uint64_t peak_charged_bytes;
	uint64_t connections;		/* page caches that are open */
	uint64_t pages;			/* in all of them */
	uint64_t pinned_bytes;		/* pages that SQLite holds */
	uint64_t evictions_total;	/* pages whose room others needed */
	uint64_t recycled_total;	/* pages that a connection used again
					   itself */
	uint64_t refusals_total;	/* pages that must be had and were not:
					   SQLITE_NOMEM */
	uint64_t metadata_bytes;	/* libseg's own, beside the budget */
};

/*
 * Fills ret_stats, whose size the caller has set.  SQLITE_MISUSE: SQLite is
 * not initialized with it, or the size is another one.  Any thread.
 */
LIBSEG_SQLITE_API int
libseg_sqlite_stats(struct libseg_sqlite_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
