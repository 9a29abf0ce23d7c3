/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The intent log: an array of pairs in ascending order of their keys.  Keys
 * mostly come in ascending order, so that a put appends.
 *
 * Ownership: a page that is in the log belongs to it alone (PAGE_LOG).  It
 * moves in by page_move(), which fails for a page that anybody else owns, so
 * that no page is ever in two pairs or in a log and with a caller; it leaves
 * by take (back to the caller) or is released, once, by what removes its pair.
 * The two pages of a pair may be the same one: it moves and is released once.
 */
#include <errno.h>
#include <string.h>

#include "options.h"
#include "os.h"
#include "page.h"

enum { DEFAULT_CAPACITY = 64 };

struct pair {
	uint64_t key;
	struct seg_page *page[2];	/* complete, modified */
};

struct seg_txlog {
	struct seg_pool *pool;
	struct pair *pairs;
	size_t count;
	size_t capacity;
};

static bool resize(struct seg_txlog *log, size_t capacity)
{
	struct pair *pairs;

	if (capacity > SIZE_MAX / sizeof(*pairs))
		return false;
	pairs = os_realloc(log->pairs, capacity * sizeof(*pairs));
	if (!pairs)
		return false;
	log->pairs = pairs;
	log->capacity = capacity;
	return true;
}

int seg_txlog_create(struct seg_pool *pool,
		     const struct seg_txlog_options *options,
		     struct seg_txlog **ret_log)
{
	struct seg_txlog_options o = { 0 };
	struct seg_txlog *log;

	if (!pool || !ret_log ||
	    (options && !options_get(&o, sizeof(o), options, sizeof(o))))
		return -EINVAL;
	log = os_calloc(1, sizeof(*log));
	if (!log)
		return -ENOMEM;
	if (!resize(log, o.capacity ? o.capacity : DEFAULT_CAPACITY)) {
		os_free(log);
		return -ENOMEM;
	}
	log->pool = pool;
	u64_add_relaxed(&pool->logs, 1); /* relaxed: counter */
	*ret_log = log;
	return 0;
}

/* The first pair whose key is not below; count if there is none. */
static size_t lower_bound(const struct seg_txlog *log, uint64_t key)
{
	size_t low = 0, high = log->count;

	if (high && log->pairs[high - 1].key < key)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (log->pairs[middle].key < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct pair *find(const struct seg_txlog *log, uint64_t key)
{
	size_t at = lower_bound(log, key);

	return at < log->count && log->pairs[at].key == key ? &log->pairs[at] :
							      NULL;
}

static bool is_in(const struct pair *pair, const struct seg_page *page)
{
	return pair && (pair->page[0] == page || pair->page[1] == page);
}

/* Whether page i of a pair is one that no earlier page of it is. */
static bool is_new_at(const struct pair *pair, int i)
{
	return pair->page[i] && (i == 0 || pair->page[1] != pair->page[0]);
}

/* Moves those pages of a pair that are not in `old` from one owner on. */
static int move_pages(const struct pair *pair, const struct pair *old,
		      enum page_owner from, enum page_owner to)
{
	for (int i = 0; i < 2; i++) {
		if (!is_new_at(pair, i) || is_in(old, pair->page[i]) ||
		    page_move(pair->page[i], from, to))
			continue;
		if (i == 1 && !is_in(old, pair->page[0]))
			page_move(pair->page[0], to, from);
		return page_misuse(pair->page[i]);
	}
	return 0;
}

/* Releases those pages of a pair that are not in `kept`. */
static void release_pages(const struct pair *pair, const struct pair *kept)
{
	for (int i = 0; i < 2; i++)
		if (is_new_at(pair, i) && !is_in(kept, pair->page[i]))
			page_release(pair->page[i], PAGE_LOG);
}

static void insert(struct seg_txlog *log, const struct pair *pair)
{
	size_t at = lower_bound(log, pair->key);

	memmove(&log->pairs[at + 1], &log->pairs[at],
		(log->count - at) * sizeof(*pair));
	log->pairs[at] = *pair;
	log->count++;
}

int seg_txlog_put(struct seg_txlog *log, uint64_t key,
		  struct seg_page *complete, struct seg_page *modified)
{
	struct pair pair = { .key = key, .page = { complete, modified } };
	struct pair *old;
	int ret;

	if (!log || !complete || complete->pool != log->pool ||
	    (modified && modified->pool != log->pool))
		return -EINVAL;
	old = find(log, key);
	if (!old && log->count == log->capacity &&
	    !resize(log, 2 * log->capacity))
		return -ENOMEM;
	ret = move_pages(&pair, old, PAGE_CALLER, PAGE_LOG);
	if (ret)
		return ret;
	if (!old) {
		insert(log, &pair);
		return 0;
	}
	release_pages(old, &pair);
	*old = pair;
	return 0;
}

int seg_txlog_get(struct seg_txlog *log, uint64_t key,
		  struct seg_page **ret_complete,
		  struct seg_page **ret_modified)
{
	struct pair *pair;

	if (!log)
		return -EINVAL;
	pair = find(log, key);
	if (!pair)
		return -ENOENT;
	if (ret_complete)
		*ret_complete = pair->page[0];
	if (ret_modified)
		*ret_modified = pair->page[1];
	return 0;
}

int seg_txlog_take(struct seg_txlog *log, uint64_t key,
		   struct seg_page **ret_complete,
		   struct seg_page **ret_modified)
{
	struct pair *pair;
	size_t behind;
	int ret;

	if (!log || !ret_complete || !ret_modified)
		return -EINVAL;
	pair = find(log, key);
	if (!pair)
		return -ENOENT;
	ret = move_pages(pair, NULL, PAGE_LOG, PAGE_CALLER);
	if (ret)
		return ret;
	*ret_complete = pair->page[0];
	*ret_modified = pair->page[1];
	behind = log->count - (size_t)(pair - log->pairs) - 1;
	memmove(pair, pair + 1, behind * sizeof(*pair));
	log->count--;
	return 0;
}

size_t seg_txlog_count(const struct seg_txlog *log)
{
	return log ? log->count : 0;
}

int seg_txlog_commit(struct seg_txlog *log, seg_txlog_write_fn *write,
		     void *ctx)
{
	int ret = 0;

	if (!log)
		return -EINVAL;
	for (size_t i = 0; write && !ret && i < log->count; i++)
		ret = write(ctx, log->pairs[i].key, log->pairs[i].page[0],
			    log->pairs[i].page[1]);
	return ret ? ret : seg_txlog_abort(log);
}

int seg_txlog_abort(struct seg_txlog *log)
{
	if (!log)
		return -EINVAL;
	for (size_t i = 0; i < log->count; i++)
		release_pages(&log->pairs[i], NULL);
	log->count = 0;
	return 0;
}

void seg_txlog_destroy(struct seg_txlog *log)
{
	if (!log)
		return;
	seg_txlog_abort(log);
	u64_sub_relaxed(&log->pool->logs, 1); /* relaxed: counter */
	os_free(log->pairs);
	os_free(log);
}
