/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A process without a thread of the library's: who calls does its work. */
#include <dirent.h>
#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pools.h"
#include "seg_cache.h"

enum { DECAY_MS = 8, TURNS = 200, TURNS_MOST = 1000, USERS = 4 };

static struct seg_budget *budget;
static struct seg_pool *pool;

static struct seg_pool *make_quiet(void)
{
	return make_pool_with((struct seg_pool_options){
		.budget = budget, .decay_ms = DECAY_MS, .no_thread = 1,
		.wait_ms = PATIENCE_S * 1000,
	});
}

static bool is_ours(const char *task)
{
	char path[300], name[16] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task);
	file = fopen(path, "r");
	if (file) {
		require(fscanf(file, "%15s", name) <= 1);
		require(fclose(file) == 0);
	}
	return strcmp(name, "libseg") == 0;
}

/* One that has ended may be seen for a moment. */
static unsigned threads_of_ours(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	unsigned count = 0;

	require(tasks);
	while ((task = readdir(tasks)) != NULL)
		count += is_ours(task->d_name);
	require(closedir(tasks) == 0);
	return count;
}

static int begin(void **state)
{
	(void)state;
	budget = new_budget(MIB);
	pool = make_quiet();
	return 0;
}

static int end(void **state)
{
	(void)state;
	assert_true(seg_pool_is_valid(pool));
	end_both(pool, budget);
	return 0;
}

static void upkeep(void)
{
	unsigned ms = 0;

	require(seg_upkeep(&ms) == 0);
	/* A quarter of decay_ms, or nothing. */
	require(ms <= DECAY_MS / 4 || ms == UINT_MAX);
}

/* Comes again when it was told to; nothing is to be left behind. */
static void obey(void)
{
	unsigned ms = 0;

	for (int turn = 0; ms != UINT_MAX; turn++) {
		require(turn < TURNS_MOST);
		nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
		require(seg_upkeep(&ms) == 0);
	}
}

static bool is_unmapped_after_upkeep(void)
{
	upkeep();
	return figures(pool, SEG_ALL).mapped_bytes == 0;
}

static void use_and_release(void)
{
	void *segment = seg_alloc(pool, 1);

	require(segment);
	require(seg_release(pool, segment) == 0);
}

static void test_idle_memory_goes(void **state)
{
	unsigned ms = 0;

	(void)state;
	assert_int_equal(seg_upkeep(&ms), 0);
	assert_int_equal(ms, UINT_MAX);
	use_and_release();
	assert_int_not_equal(figures(pool, SEG_ALL).mapped_bytes, 0);
	obey();
	assert_int_equal(figures(pool, SEG_ALL).mapped_bytes, 0);
	assert_int_equal(threads_of_ours(), 0);
}

static void test_errors(void **state)
{
	struct seg_pool_options o = { .size = sizeof(o), .budget = budget,
				      .no_thread = 2 };
	struct seg_cache_options c = { .size = sizeof(c), .max_weight = 1,
				       .pages = pool, .no_thread = 2 };
	struct seg_pool *other;
	struct seg_cache *cache;

	(void)state;
	assert_int_equal(seg_pool_create(&o, &other), -EINVAL);
	assert_int_equal(seg_cache_create(&c, &cache), -EINVAL);
	assert_int_equal(seg_upkeep(NULL), 0);
	seg_read_begin();
	assert_int_equal(seg_upkeep(NULL), -EDEADLK);
	assert_int_equal(seg_upkeep_start(), -EDEADLK);
	seg_read_end();
}

static struct seg_cache *make_cache(void)
{
	struct seg_cache_options o = {
		.size = sizeof(o), .max_weight = MIB, .budget = budget,
		.pages = pool, .short_reads = 1, .no_thread = 1,
	};
	struct seg_cache *cache;

	assert_int_equal(seg_cache_create(&o, &cache), 0);
	return cache;
}

static void fill(struct seg_cache *cache)
{
	const size_t bytes = SEG_MAX_BYTES;

	for (uint64_t key = 0; key < MIB / SEG_MAX_BYTES; key++) {
		struct seg_page *page;

		assert_int_equal(seg_page_create(pool, &bytes, 1, &page), 0);
		assert_int_equal(seg_cache_put(cache, key, page, bytes, NULL),
				 0);
	}
}

/* What is evicted comes after a grace period, which nobody else waits for. */
static void test_who_waits_at_the_limit_takes_turns(void **state)
{
	struct seg_cache *cache = make_cache();
	void *segment;

	(void)state;
	fill(cache);
	segment = seg_alloc(pool, SEG_MAX_BYTES);
	assert_non_null(segment);
	assert_int_equal(seg_release(pool, segment), 0);
	assert_int_equal(threads_of_ours(), 0);
	assert_int_equal(seg_cache_destroy(cache), 0);
}

/* Nor for who does not wait; and a limit is lowered at once. */
static void test_who_does_not_wait_takes_turns(void **state)
{
	struct seg_cache *cache = make_cache();
	const size_t bytes = SEG_MAX_BYTES;

	(void)state;
	for (uint64_t key = 0; key < 4 * MIB / SEG_MAX_BYTES; key++) {
		struct seg_page *page;
		void *segment = alloc_without_wait(pool, bytes);

		assert_non_null(segment);
		assert_int_equal(seg_release(pool, segment), 0);
		assert_int_equal(seg_page_create(pool, &bytes, 1, &page), 0);
		assert_int_equal(seg_cache_put(cache, key, page, bytes, NULL),
				 0);
	}
	/* Nothing but these calls does anything. */
	wait_until(seg_budget_set_limit(budget, MIB / 2) == 0);
	assert_int_equal(seg_cache_destroy(cache), 0);
	assert_int_equal(seg_budget_set_limit(budget, MIB), 0);
}

static void start_inside(void *ctx, uint64_t key, void *value, uint64_t weight,
			 enum seg_cause cause)
{
	unsigned *calls = ctx;

	(void)key;
	(void)value;
	(void)weight;
	(void)cause;
	require(seg_upkeep_start() == -EDEADLK);
	++*calls;
}

static void test_no_start_in_a_turn(void **state)
{
	unsigned calls = 0;
	struct seg_cache_options o = {
		.size = sizeof(o), .max_weight = 1, .short_reads = 1,
		.no_thread = 1, .listener = start_inside,
		.listener_ctx = &calls,
	};
	struct seg_cache *cache;

	(void)state;
	assert_int_equal(seg_cache_create(&o, &cache), 0);
	assert_int_equal(seg_cache_put(cache, 1, &o, 1, NULL), 0);
	assert_int_equal(seg_cache_remove(cache, 1, NULL), 0);
	assert_int_equal(calls, 0);
	obey();
	assert_int_equal(calls, 1);
	assert_int_equal(seg_cache_destroy(cache), 0);
}

/* Where another pool has the thread, it works for all. */
static void test_beside_a_pool_with_the_thread(void **state)
{
	struct seg_pool *other = make_pool(budget);
	unsigned ms = 0;

	(void)state;
	assert_int_equal(threads_of_ours(), 1);
	use_and_release();
	assert_int_equal(seg_upkeep(&ms), 0);
	assert_int_equal(ms, UINT_MAX);
	wait_until(figures(pool, SEG_ALL).mapped_bytes == 0);
	end_pool(other);
	wait_until(threads_of_ours() == 0);
	use_and_release();
	wait_until(is_unmapped_after_upkeep());
}

static void upkeep_inside(void *ctx, enum seg_log_level level, const char *line)
{
	unsigned *calls = ctx;

	(void)level;
	(void)line;
	require(seg_upkeep(NULL) == 0);
	++*calls;
}

static void test_from_its_own_callback(void **state)
{
	unsigned calls = 0;

	(void)state;
	end_pool(pool);
	pool = make_pool_with((struct seg_pool_options){
		.budget = budget, .decay_ms = DECAY_MS, .no_thread = 1,
		.log = upkeep_inside, .log_ctx = &calls,
		.log_level = SEG_LOG_REGION,
	});
	use_and_release();
	calls = 0;
	wait_until(is_unmapped_after_upkeep());
	assert_int_not_equal(calls, 0);
}

static void *use_with_turns(void *arg)
{
	(void)arg;
	for (int i = 0; i < TURNS; i++) {
		void *segment = alloc_patiently(pool, SEG_MAX_BYTES);

		require(segment);
		require(seg_release(pool, segment) == 0);
		require(seg_upkeep(NULL) == 0);
	}
	return NULL;
}

static void test_several_threads(void **state)
{
	struct threads t;

	(void)state;
	threads_start(&t, USERS, use_with_turns, NULL, 0);
	assert_int_equal(threads_join(&t), 0);
	wait_until(is_unmapped_after_upkeep());
}

static void test_fork(void **state)
{
	int status;
	pid_t child;

	(void)state;
	use_and_release();
	child = fork();
	assert_int_not_equal(child, -1);
	if (!child) {
		use_and_release();
		wait_until(is_unmapped_after_upkeep());
		require(threads_of_ours() == 0);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* The last one: it holds for the rest of the process. */
static void test_start(void **state)
{
	struct seg_pool *other;

	(void)state;
	assert_int_equal(threads_of_ours(), 0);
	assert_int_equal(seg_upkeep_start(), 0);
	assert_int_equal(seg_upkeep_start(), 0);
	assert_int_equal(threads_of_ours(), 1);
	use_and_release();
	wait_until(figures(pool, SEG_ALL).mapped_bytes == 0);
	end_pool(pool);
	wait_until(threads_of_ours() == 0);
	other = make_quiet();
	assert_int_equal(threads_of_ours(), 1);
	end_pool(other);
	wait_until(threads_of_ours() == 0);
	pool = make_quiet();
}

#define quiet_test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		quiet_test(test_idle_memory_goes),
		quiet_test(test_errors),
		quiet_test(test_who_waits_at_the_limit_takes_turns),
		quiet_test(test_who_does_not_wait_takes_turns),
		quiet_test(test_no_start_in_a_turn),
		quiet_test(test_beside_a_pool_with_the_thread),
		quiet_test(test_from_its_own_callback),
		quiet_test(test_several_threads),
		quiet_test(test_fork),
		quiet_test(test_start),
	};

	return run_group(tests);
}
