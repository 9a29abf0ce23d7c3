/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A program beside the library: a budget, a pool, a cache of pages.  Build it
 * by the CMakeLists.txt here, or by
 *   cc pages.c $(pkg-config --cflags --libs libseg)
 */
#include <stdio.h>
#include <string.h>

#include <seg.h>

static int load(void *ctx, uint64_t key, void **ret_value, uint64_t *ret_weight)
{
	const size_t bytes = 50000;
	struct seg_page *page;
	int ret = seg_page_create(ctx, &bytes, 1, &page);

	if (ret)
		return ret;
	snprintf(seg_page_part(page, 0), bytes, "page %d", (int)key);
	*ret_value = page;
	*ret_weight = 0;	/* the page's own */
	return 0;
}

static int print(struct seg_cache *cache, struct seg_pool *pool, uint64_t key)
{
	struct seg_pin pin;
	int ret = seg_cache_get_or_load(cache, key, load, pool, 0, &pin);

	if (ret)
		return ret;
	puts(seg_page_part(seg_pin_value(&pin), 0));
	return seg_unpin(&pin);
}

int main(void)
{
	struct seg_budget_options limit = {
		.size = sizeof(limit), .limit_bytes = UINT64_C(64) << 20
	};
	struct seg_pool_options options = { .size = sizeof(options) };
	struct seg_cache_options cache_options = {
		.size = sizeof(cache_options),
		.max_weight = UINT64_C(1) << 20
	};
	struct seg_cache *cache;
	int ret = 0;

	if (seg_budget_create(&limit, &options.budget) ||
	    seg_pool_create(&options, &cache_options.pages))
		return 1;
	cache_options.budget = options.budget;
	if (seg_cache_create(&cache_options, &cache))
		return 1;
	for (uint64_t i = 0; i < 3 && !ret; i++)
		ret = print(cache, cache_options.pages, i % 2);
	if (ret)
		fprintf(stderr, "pages: %s\n", strerror(-ret));
	return seg_cache_destroy(cache) ||
	       seg_pool_destroy(cache_options.pages) ||
	       seg_budget_destroy(options.budget) || ret;
}
