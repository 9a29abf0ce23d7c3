/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * P11: the library is loaded, used and unloaded again, and leaves nothing: no
 * thread, no fork handler.  LIBSEG_SO says where it is; skipped without.
 */
#include <dirent.h>
#include <dlfcn.h>

#include "pools.h"

enum { ROUNDS = 3, USERS = 4, TURNS = 2000 };

static const char *path;

/* The functions of the library that was just loaded. */
static struct {
	int (*budget_create)(const struct seg_budget_options *options,
			     struct seg_budget **ret_budget);
	int (*budget_destroy)(struct seg_budget *budget);
	int (*pool_create)(const struct seg_pool_options *options,
			   struct seg_pool **ret_pool);
	int (*pool_destroy)(struct seg_pool *pool);
	bool (*pool_is_valid)(struct seg_pool *pool);
	void *(*alloc)(struct seg_pool *pool, size_t bytes);
	int (*release)(struct seg_pool *pool, void *segment);
	const char *(*version)(void);
	int (*cache_create)(const struct seg_cache_options *options,
			    struct seg_cache **ret_cache);
	int (*cache_destroy)(struct seg_cache *cache);
	int (*cache_put)(struct seg_cache *cache, uint64_t key, void *value,
			 uint64_t weight, struct seg_pin *ret_pin);
	int (*cache_get)(struct seg_cache *cache, uint64_t key,
			 struct seg_pin *ret_pin);
	int (*unpin)(struct seg_pin *pin);
} seg;

static void get(void *library, const char *name, void *ret_function)
{
	void *found = dlsym(library, name);

	require(found);
	memcpy(ret_function, &found, sizeof(found));
}

static void *load(void)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (!library)
		fail_msg("%s", dlerror());
	get(library, "seg_budget_create", &seg.budget_create);
	get(library, "seg_budget_destroy", &seg.budget_destroy);
	get(library, "seg_pool_create", &seg.pool_create);
	get(library, "seg_pool_destroy", &seg.pool_destroy);
	get(library, "seg_pool_is_valid", &seg.pool_is_valid);
	get(library, "seg_alloc", &seg.alloc);
	get(library, "seg_release", &seg.release);
	get(library, "seg_version", &seg.version);
	get(library, "seg_cache_create", &seg.cache_create);
	get(library, "seg_cache_destroy", &seg.cache_destroy);
	get(library, "seg_cache_put", &seg.cache_put);
	get(library, "seg_cache_get", &seg.cache_get);
	get(library, "seg_unpin", &seg.unpin);
	return library;
}

static unsigned threads_now(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned count = 0;

	require(tasks);
	while ((entry = readdir(tasks)) != NULL)
		count += entry->d_name[0] != '.';
	closedir(tasks);
	return count;
}

static void *use(void *pool)
{
	for (int i = 0; i < TURNS; i++) {
		char *segment = seg.alloc(pool, slice_of(i % SEG_CLASSES));

		require(segment);
		segment[0] = 1;
		require(seg.release(pool, segment) == 0);
	}
	return NULL;
}

static void count_call(void *ctx, uint64_t key, void *value, uint64_t weight,
		       enum seg_cause cause)
{
	(void)key;
	(void)value;
	(void)weight;
	(void)cause;
	(*(uint64_t *)ctx)++;
}

/* With a table that grows, and what leaves in the library's own thread. */
static void use_a_cache(void)
{
	uint64_t calls = 0;
	struct seg_cache_options o = {
		.size = sizeof(o), .max_weight = TURNS / 2, .short_reads = 1,
		.listener = count_call, .listener_ctx = &calls,
	};
	struct seg_cache *cache = NULL;
	struct seg_pin pin;

	assert_int_equal(seg.cache_create(&o, &cache), 0);
	for (uint64_t key = 0; key < TURNS; key++) {
		require(seg.cache_put(cache, key, &o, 1, NULL) == 0);
		require(seg.cache_get(cache, key, &pin) == 0);
		require(seg.unpin(&pin) == 0);
	}
	assert_int_equal(seg.cache_destroy(cache), 0);
	assert_int_equal(calls, TURNS);
}

static void use_from_threads(void)
{
	struct seg_budget_options limit = { .size = sizeof(limit),
					    .limit_bytes = 64 * MIB };
	struct seg_pool_options o = { .size = sizeof(o), .decay_ms = 5 };
	struct seg_pool *pool = NULL;
	unsigned before = threads_now();
	struct threads threads;

	assert_int_equal(seg.budget_create(&limit, &o.budget), 0);
	assert_int_equal(seg.pool_create(&o, &pool), 0);
	assert_int_equal(threads_now(), before + 1);
	threads_start(&threads, USERS, use, pool, 0);
	use(pool);
	assert_int_equal(threads_join(&threads), 0);
	use_a_cache();
	assert_true(seg.pool_is_valid(pool));
	assert_int_equal(seg.pool_destroy(pool), 0);
	assert_int_equal(seg.budget_destroy(o.budget), 0);
	/* The kernel shows a thread for a moment after its join. */
	wait_until(threads_now() == before);
}

#ifndef SEG_TSAN
static int just_exit(void *ctx)
{
	(void)ctx;
	return 0;
}
#endif

static void *just_return(void *arg)
{
	return arg;
}

static void test_loaded_used_unloaded(void **state)
{
	struct threads first;

	(void)state;
	/* A sanitizer has a thread of its own as soon as there are any. */
	threads_start(&first, 1, just_return, NULL, 0);
	assert_int_equal(threads_join(&first), 0);
	for (int round = 0; round < ROUNDS; round++) {
		void *library = load();

		assert_string_equal(seg.version(), PACKAGE_VERSION);
		use_from_threads();
		assert_int_equal(dlclose(library), 0);
#ifndef SEG_TSAN
		/* A handler that is left would be called where nothing is. */
		assert_int_equal(run_in_child(just_exit, NULL), 0);
#endif
	}
}

/* Threads that used it end when it is gone. */
struct outlives {
	struct seg_pool *pool;
	sem_t *used, *unloaded;
};

static void *outlive(void *arg)
{
	struct outlives *o = arg;

	use(o->pool);
	sem_post(o->used);
	wait_for(o->unloaded);
	return NULL;
}

static void test_threads_that_outlive_it(void **state)
{
	struct seg_budget_options limit = { .size = sizeof(limit),
					    .limit_bytes = 64 * MIB };
	struct seg_pool_options po = { .size = sizeof(po) };
	struct outlives o;
	struct threads threads;
	sem_t used, unloaded;
	void *library = load();

	(void)state;
	sem_init(&used, 0, 0);
	sem_init(&unloaded, 0, 0);
	o = (struct outlives){ .used = &used, .unloaded = &unloaded };
	assert_int_equal(seg.budget_create(&limit, &po.budget), 0);
	assert_int_equal(seg.pool_create(&po, &o.pool), 0);
	threads_start(&threads, USERS, outlive, &o, 0);
	for (int i = 0; i < USERS; i++)
		wait_for(&used);
	assert_int_equal(seg.pool_destroy(o.pool), 0);
	assert_int_equal(seg.budget_destroy(po.budget), 0);
	assert_int_equal(dlclose(library), 0);
	for (int i = 0; i < USERS; i++)
		sem_post(&unloaded);
	assert_int_equal(threads_join(&threads), 0);
	sem_destroy(&used);
	sem_destroy(&unloaded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loaded_used_unloaded),
		cmocka_unit_test(test_threads_that_outlive_it),
	};

	path = getenv("LIBSEG_SO");
	if (!path)
		return TESTING_SKIPPED;
	return run_group(tests);
}
