/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "plan.h"

#define TRIES 4		/* for a file that changes while it is read */
#define WAIT_MS 20	/* at the limit; all clients of the thread wait, too */

/*
 * What a page begins with.  Written by the loader, before anybody else has the
 * page, but for the time of the last check.
 */
struct image {
	struct file_stamp stamp;
	bool settled;
	uint64_t start;		/* of the contents, from the page's beginning */
	atomic_int_fast64_t checked_ms;
	char path[];
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct image *image_of(const struct seg_pin *pin)
{
	return seg_page_part(seg_pin_value(pin), 0);
}

/* FNV-1a from a secret beginning, and a last round that mixes high bits in. */
static uint64_t key_of(uint64_t seed, const char *path)
{
	uint64_t hash = seed;

	for (; *path; path++)
		hash = (hash ^ (unsigned char)*path) * UINT64_C(0x100000001b3);
	return (hash ^ hash >> 32) * UINT64_C(0x9e3779b97f4a7c15);
}

/* ---------------------------------------------------------- into memory */

/* The pieces of a page that hold bytes at offset. */
static unsigned pieces_of(const struct seg_page *page, uint64_t offset,
			  uint64_t bytes, struct iovec *ret)
{
	unsigned count = 0;

	for (unsigned i = 0; bytes && i < seg_page_parts(page); i++) {
		uint64_t size = seg_page_part_bytes(page, i);
		uint64_t part;

		if (offset >= size) {
			offset -= size;
			continue;
		}
		part = size - offset < bytes ? size - offset : bytes;
		ret[count].iov_base = (char *)seg_page_part(page, i) + offset;
		ret[count++].iov_len = part;
		bytes -= part;
		offset = 0;
	}
	return count;
}

struct load {
	struct store *store;
	const char *path;
};

static void write_image(struct image *image, const struct load *load,
			const struct file_stamp *stamp, uint64_t start)
{
	image->stamp = *stamp;
	image->settled = file_is_settled(stamp);
	image->start = start;
	atomic_init(&image->checked_ms, now_ms());
	strcpy(image->path, load->path);
}

/* The file that fd is, as a page.  It must be the same before and after. */
static int read_page(const struct load *load, int fd,
		     const struct file_stamp *stamp, struct seg_page **ret_page)
{
	uint64_t start = sizeof(struct image) + strlen(load->path) + 1;
	size_t sizes[SEG_PAGE_PARTS];
	struct iovec pieces[SEG_PAGE_PARTS];
	struct file_stamp after;
	struct seg_page *page;
	int ret;

	if (stamp->bytes > PLAN_MOST - start)
		return -EFBIG;
	ret = seg_page_create(load->store->pool, sizes,
			      plan_parts(start + stamp->bytes, sizes), &page);
	if (ret < 0)
		return ret;
	write_image(seg_page_part(page, 0), load, stamp, start);
	ret = file_read(fd, pieces,
			pieces_of(page, start, stamp->bytes, pieces));
	if (!ret)
		ret = file_stat(fd, &after);
	if (!ret && !file_same(stamp, &after))
		ret = -ESTALE;
	if (ret < 0)
		seg_page_release(page);
	else
		*ret_page = page;
	return ret;
}

/* A seg_cache_load_fn: of all who miss a file at a time, one runs this. */
static int load_page(void *ctx, uint64_t key, void **ret_value,
		     uint64_t *ret_weight)
{
	struct load *load = ctx;
	struct seg_page *page = NULL;
	struct file_stamp stamp;
	int fd, ret;

	(void)key;
	ret = file_open(load->store->folder, load->path, &fd, &stamp);
	if (ret < 0)
		return ret;
	ret = read_page(load, fd, &stamp, &page);
	close(fd);
	*ret_value = page;
	*ret_weight = 0;	/* the page's own */
	return ret;
}

/* ----------------------------------------------------------- out of it */

/* Whether it is this thread's turn to look at the file. */
static bool check_is_due(struct image *image)
{
	int_fast64_t now = now_ms();
	/* relaxed: a time; nothing is read that depends on it */
	int_fast64_t last = atomic_load_explicit(&image->checked_ms,
						 memory_order_relaxed);

	return now - last >= STORE_CHECK_MS &&
	       atomic_compare_exchange_strong_explicit(
			&image->checked_ms, &last, now,
			memory_order_relaxed, memory_order_relaxed);
}

static bool is_unchanged(struct store *store, const struct image *image)
{
	struct file_stamp stamp;
	int fd;

	/* relaxed: a counter */
	atomic_fetch_add_explicit(&store->checked_total, 1,
				  memory_order_relaxed);
	if (file_open(store->folder, image->path, &fd, &stamp) < 0)
		return false;
	close(fd);
	return image->settled && file_same(&image->stamp, &stamp);
}

/* Lets those who have it pinned finish, and nobody else find it. */
static void forget(struct store *store, uint64_t key, struct seg_pin *pin)
{
	seg_cache_remove(store->cache, key, seg_pin_value(pin));
	seg_unpin(pin);
	/* relaxed: a counter */
	atomic_fetch_add_explicit(&store->changed_total, 1,
				  memory_order_relaxed);
}

static int get_once(struct store *store, struct load *load,
		    struct stored *file)
{
	uint64_t key = key_of(store->seed, load->path);
	int ret = seg_cache_get_or_load(store->cache, key, load_page, load, 0,
					&file->pin);
	struct image *image;

	if (ret < 0)
		return ret;
	image = image_of(&file->pin);
	if (strcmp(image->path, load->path)) {
		seg_unpin(&file->pin);	/* two paths, one key */
		return -EFBIG;
	}
	if (check_is_due(image) && !is_unchanged(store, image)) {
		forget(store, key, &file->pin);
		return -ESTALE;
	}
	file->stamp = image->stamp;
	file->settled = image->settled;
	return 0;
}

int store_get(struct store *store, const char *path, uint64_t owner,
	      struct stored *ret_file)
{
	struct load load = { .store = store, .path = path };
	int ret = -ESTALE;

	if (strlen(path) > STORE_PATH_MOST)
		return -ENOENT;
	for (int i = 0; ret == -ESTALE && i < TRIES; i++)
		ret = get_once(store, &load, ret_file);
	if (!ret)	/* if there is no memory for it, it has no name */
		seg_pin_tag(&ret_file->pin, owner);
	return ret;
}

unsigned store_pieces(const struct stored *file, uint64_t offset,
		      uint64_t bytes, struct iovec *ret_pieces)
{
	return pieces_of(seg_pin_value(&file->pin),
			 image_of(&file->pin)->start + offset, bytes,
			 ret_pieces);
}

void store_done(struct stored *file)
{
	seg_unpin(&file->pin);
}

/* ------------------------------------------------------- begin and end */

static int create_memory(struct store *store,
			 const struct store_options *options)
{
	struct seg_budget_options limit = {
		.size = sizeof(limit), .limit_bytes = options->budget_bytes,
	};
	struct seg_pool_options pool = {
		.size = sizeof(pool), .wait_ms = WAIT_MS,
		.log = options->log, .log_level = options->log_level,
	};
	/* As much as there is: for what is being sent, the limit takes it. */
	struct seg_cache_options cache = {
		.size = sizeof(cache), .name = "Files",
		.max_weight = options->budget_bytes,
		.log = options->log, .log_level = options->log_level,
	};
	int ret = seg_budget_create(&limit, &store->budget);

	if (ret < 0)
		return ret;
	pool.budget = cache.budget = store->budget;
	ret = seg_pool_create(&pool, &store->pool);
	if (ret < 0)
		return ret;
	cache.pages = store->pool;
	return seg_cache_create(&cache, &store->cache);
}

int store_open(struct store *store, const struct store_options *options)
{
	int ret;

	*store = (struct store){ .folder = -1 };
	if (getrandom(&store->seed, sizeof(store->seed), 0) < 0)
		return -errno;
	ret = file_open_folder(options->root, &store->folder);
	if (!ret)
		ret = create_memory(store, options);
	if (ret < 0)
		store_close(store);
	return ret;
}

static int left(const char *what, uint64_t number)
{
	fprintf(stderr, "seg-server: LEFT: %llu %s\n",
		(unsigned long long)number, what);
	return -EBUSY;
}

int store_close(struct store *store)
{
	struct seg_cache_stats cache = { .size = sizeof(cache) };
	struct seg_pool_stats pool = { .size = sizeof(pool) };
	struct seg_budget_stats budget = { .size = sizeof(budget) };

	if (store->folder >= 0)
		close(store->folder);
	if (store->cache && seg_cache_destroy(store->cache) < 0) {
		seg_cache_stats(store->cache, &cache);
		return left("bytes pinned", cache.pinned_weight);
	}
	if (store->pool)
		seg_pool_stats(store->pool, SEG_ALL, SEG_ALL, &pool);
	if (pool.active || seg_pool_destroy(store->pool) < 0)
		return left("segments", pool.active);
	if (store->budget)
		seg_budget_stats(store->budget, &budget);
	if (budget.charged_bytes || seg_budget_destroy(store->budget) < 0)
		return left("bytes charged", budget.charged_bytes);
	return 0;
}
