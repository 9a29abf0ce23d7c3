/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libseg's pages: segments owned as one, and the intent logs of write
 * transactions.  Included by seg.h, whose rules on errors, threads, structs and
 * owners hold here, too.
 */
#ifndef SEG_PUBLIC_PAGE_H
#define SEG_PUBLIC_PAGE_H

#include <seg.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ pages */

/*
 * Makes a page: one owner of 1 to SEG_PAGE_PARTS segments, part i with at
 * least part_bytes[i] bytes.  All parts or none.
 * Errors: -EINVAL a NULL, parts 0 or too many, a size 0 or too large;
 * -ENOMEM as in seg_alloc().
 * Owner: the caller, until seg_page_release(), seg_txlog_put() or a put into
 * a cache of pages.
 */
SEG_API SEG_NODISCARD int
seg_page_create(struct seg_pool *pool, const size_t *part_bytes, unsigned parts,
		struct seg_page **ret_page);

/* The number of parts; 0 for NULL.  Wait-free. */
SEG_API unsigned seg_page_parts(const struct seg_page *page);

/* Part i, or NULL where there is none.  Wait-free. */
SEG_API void *seg_page_part(const struct seg_page *page, unsigned part);

/* The bytes of part i (its class), or 0 where there is none.  Wait-free. */
SEG_API size_t seg_page_part_bytes(const struct seg_page *page, unsigned part);

/* The bytes of all parts: what it weighs in a cache; 0 for NULL.  Wait-free. */
SEG_API size_t seg_page_bytes(const struct seg_page *page);

/*
 * Moves part i to the smallest class with at least the given bytes: the
 * contents move along, the old segment is released, its address is no longer
 * the page's.  A part that is large enough already stays.
 * Only one thread at a time may use a page.
 * Errors: -EINVAL page NULL, no such part, more than SEG_MAX_BYTES; -ESTALE
 * the page was released; -EBUSY a cache owns it; -ENOMEM the page is as it was.
 */
SEG_API SEG_NODISCARD int seg_page_grow(struct seg_page *page, unsigned part,
					size_t bytes);

/*
 * Releases the page and its segments, once.  NULL is a no-op.  Page pointers
 * stay readable until the pool is destroyed, so that a second release is
 * detected as long as the page object was not given out again.
 * Errors: -ESTALE released already; -EBUSY an intent log or a cache owns it.
 * Lock-free.
 */
SEG_API int seg_page_release(struct seg_page *page);

/* ------------------------------------------------------------- intent log */

/*
 * A write transaction's own set of pages: for each key a pair of pages, the
 * complete and the modified one (which may be the same, or NULL).  It owns
 * what is put in, alone, and hands everything back to the pool at commit,
 * abort or destroy.  Not MT-Safe: one thread at a time, any thread.
 */
struct seg_txlog_options {
	size_t size;		/* sizeof(struct seg_txlog_options) */
	size_t capacity;	/* pairs to make room for at once; 0: 64 */
};

/*
 * Errors: -EINVAL pool or ret_log NULL, options of a size that is not valid
 * (NULL is all defaults); -ENOMEM.  Owner: the caller.
 */
SEG_API SEG_NODISCARD int
seg_txlog_create(struct seg_pool *pool, const struct seg_txlog_options *options,
		 struct seg_txlog **ret_log);

/*
 * Moves a pair of pages into the log.  The pages of an earlier pair of that
 * key are released, but for those that are in the new one.
 * Errors: -EINVAL log or complete NULL, a page of another pool; -ESTALE a
 * page was released; -EBUSY a page is owned by another key, log or cache;
 * -ENOMEM.
 * On an error the pages stay the caller's.
 */
SEG_API SEG_NODISCARD int
seg_txlog_put(struct seg_txlog *log, uint64_t key, struct seg_page *complete,
	      struct seg_page *modified);

/*
 * The pair of a key; still the log's.  The ret_ parameters may be NULL.
 * Errors: -EINVAL log NULL; -ENOENT no such key.
 */
SEG_API int seg_txlog_get(struct seg_txlog *log, uint64_t key,
			  struct seg_page **ret_complete,
			  struct seg_page **ret_modified);

/*
 * As get, but the pair leaves the log and is the caller's.
 * Errors: -EINVAL log, ret_complete or ret_modified NULL; -ENOENT.
 */
SEG_API SEG_NODISCARD int
seg_txlog_take(struct seg_txlog *log, uint64_t key,
	       struct seg_page **ret_complete, struct seg_page **ret_modified);

/* The number of pairs; 0 for NULL. */
SEG_API size_t seg_txlog_count(const struct seg_txlog *log);

/* Makes one pair durable: 0, or a negative errno to stop the commit. */
typedef int seg_txlog_write_fn(void *ctx, uint64_t key,
			       const struct seg_page *complete,
			       const struct seg_page *modified);

/*
 * Calls write (may be NULL) for each pair in ascending order of keys, then
 * releases all pages.  If write fails, nothing is released and the log is as
 * it was.
 * Errors: -EINVAL log NULL; else what write returned.
 */
SEG_API int seg_txlog_commit(struct seg_txlog *log, seg_txlog_write_fn *write,
			     void *ctx);

/* Releases all pages; the log is empty and can be used again.  -EINVAL NULL. */
SEG_API int seg_txlog_abort(struct seg_txlog *log);

/* Aborts and ends the log.  NULL is a no-op. */
SEG_API void seg_txlog_destroy(struct seg_txlog *log);

#ifdef __cplusplus
}
#endif

#endif
