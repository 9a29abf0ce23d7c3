/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * P7: identity, not address.  Each misuse has its code, its line, its count
 * and its error, and changes nothing; an old handle never is a new owner's.
 */
#include "one_node.h"
#include "pools.h"

#include <sys/mman.h>

#include "fault_os.h"
#include "region.h"

enum { ARENA_BYTES = 2 * REGION_ALIGN };

static struct seg_handle handle_of(struct seg_pool *pool, void *segment)
{
	struct seg_handle handle = { 0 };

	assert_int_equal(seg_handle_of(pool, segment, &handle), 0);
	assert_ptr_equal(handle.segment, segment);
	return handle;
}

static void assert_resolves(struct seg_pool *pool, struct seg_handle handle)
{
	void *segment = NULL;

	assert_int_equal(seg_resolve(pool, &handle, &segment), 0);
	assert_ptr_equal(segment, handle.segment);
}

static void assert_stale(struct seg_pool *pool, struct seg_handle handle)
{
	void *segment = &segment;

	assert_int_equal(seg_resolve(pool, &handle, &segment), -ESTALE);
	assert_ptr_equal(segment, &segment);
	assert_int_equal(seg_release_handle(pool, &handle), -ESTALE);
}

static void test_a_handle_lives_as_long_as_its_hand_out(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool(b);
	struct seg_handle first, second;

	(void)state;
	first = handle_of(pool, seg_alloc(pool, 1));
	assert_resolves(pool, first);
	assert_int_equal(seg_release(pool, first.segment), 0);
	assert_stale(pool, first);
	second = handle_of(pool, seg_alloc(pool, 1));
	assert_ptr_equal(first.segment, second.segment);
	assert_stale(pool, first);
	assert_resolves(pool, second);
	assert_int_equal(seg_release_handle(pool, &second), 0);
	assert_stale(pool, second);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_stale(pool, first);
	assert_stale(pool, second);
	end_both(pool, b);
}

/* For the next tests: all regions come to one place, one after the other. */
static int use_one_place(void **state)
{
	char *arena = mmap(NULL, ARENA_BYTES, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t head = -(uintptr_t)arena & (REGION_ALIGN - 1);

	*state = arena;
	fault_place_regions(arena + head);
	return arena == MAP_FAILED;
}

static int use_any_place(void **state)
{
	fault_place_regions(NULL);
	return munmap(*state, ARENA_BYTES);
}

#define AT_ONE_PLACE(test)                                                     \
	cmocka_unit_test_setup_teardown(test, use_one_place, use_any_place)

static void *alloc_at(struct seg_pool *pool, size_t bytes, const void *address)
{
	void *segment = alloc_patiently(pool, bytes);

	assert_ptr_equal(segment, address);
	return segment;
}

static void test_the_same_address_in_another_region(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool(b);
	struct seg_handle old = handle_of(pool, seg_alloc(pool, 1));
	struct seg_handle now;
	void *segment;

	(void)state;
	assert_int_equal(seg_release(pool, old.segment), 0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	segment = alloc_at(pool, 1, old.segment);
	now = handle_of(pool, segment);
	assert_int_not_equal(now.region, old.region);
	assert_true(now.generation > old.generation);
	assert_stale(pool, old);
	assert_resolves(pool, now);
	assert_int_equal(seg_release_handle(pool, &now), 0);
	end_both(pool, b);
}

/* What was a segment lies inside one of another class now. */
static void test_the_same_address_inside_a_larger_segment(void **state)
{
	struct seg_budget *b = new_budget(SEG_MAX_BYTES);
	struct seg_pool *pool = make_pool(b);
	struct seg_handle old;
	void *two[2];

	(void)state;
	two[0] = seg_alloc(pool, 1);
	two[1] = seg_alloc(pool, 1);
	old = handle_of(pool, two[1]);
	assert_int_equal(seg_release(pool, two[0]), 0);
	assert_int_equal(seg_release(pool, two[1]), 0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	two[0] = alloc_at(pool, SEG_MAX_BYTES, two[0]);
	assert_stale(pool, old);
	assert_int_equal(seg_release(pool, two[0]), 0);
	end_both(pool, b);
}

/* What was a segment lies behind the end of a smaller region now. */
static void test_the_same_address_behind_a_smaller_region(void **state)
{
	struct seg_budget *b = new_budget(2 * SEG_MAX_BYTES);
	struct seg_pool *pool = make_pool(b);
	struct seg_handle old;
	void *two[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		two[i] = seg_alloc(pool, slice_of(4));
		assert_non_null(two[i]);
	}
	old = handle_of(pool, two[1]);
	assert_int_equal(seg_release(pool, two[0]), 0);
	assert_int_equal(seg_release(pool, two[1]), 0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	/* The limit makes the next region smaller. */
	assert_int_equal(seg_budget_set_limit(b, SEG_MIN_BYTES), 0);
	two[0] = alloc_at(pool, 1, two[0]);
	assert_stale(pool, old);
	assert_int_equal(seg_release(pool, two[0]), 0);
	end_both(pool, b);
}

static void test_no_two_handles_are_equal(void **state)
{
	struct seg_budget *b = new_budget(64 * KIB);
	struct seg_pool *pool = make_pool(b);
	enum { MANY = 300 };
	struct seg_handle handle[MANY];

	(void)state;
	for (int i = 0; i < MANY; i++) {
		handle[i] = handle_of(pool, seg_alloc(pool, 1));
		assert_int_equal(seg_release(pool, handle[i].segment), 0);
		if (i % 7 == 0)
			assert_int_equal(seg_pool_trim(pool, NULL), 0);
	}
	for (int i = 0; i < MANY; i++)
		for (int j = 0; j < i; j++)
			assert_memory_not_equal(&handle[i], &handle[j],
						sizeof(*handle));
	end_both(pool, b);
}

enum { THREADS = 4, ROUNDS = 300 };

struct race {
	struct seg_pool *pool;
	const struct seg_handle *handle;
	pthread_barrier_t *barrier;
	unsigned wins;
	unsigned losses;
};

static void *race_main(void *arg)
{
	struct race *race = arg;

	for (int i = 0; i < ROUNDS; i++) {
		int ret;

		pthread_barrier_wait(race->barrier);
		ret = seg_release_handle(race->pool, race->handle);
		race->wins += ret == 0;
		race->losses += ret == -ESTALE;
		pthread_barrier_wait(race->barrier);
	}
	return NULL;
}

static void test_a_double_release_has_one_winner(void **state)
{
	struct seg_budget *b = new_budget(64 * KIB);
	struct seg_pool *pool = make_pool(b);
	struct race races[THREADS];
	unsigned wins = 0, losses = 0;
	pthread_barrier_t barrier;
	struct seg_handle handle;
	struct threads threads;

	(void)state;
	assert_int_equal(pthread_barrier_init(&barrier, NULL, THREADS + 1), 0);
	for (int i = 0; i < THREADS; i++)
		races[i] = (struct race){ pool, &handle, &barrier, 0, 0 };
	threads_start(&threads, THREADS, race_main, races, sizeof(*races));
	for (int i = 0; i < ROUNDS; i++) {
		handle = handle_of(pool, seg_alloc(pool, 1));
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
	}
	assert_int_equal(threads_join(&threads), 0);
	pthread_barrier_destroy(&barrier);
	for (int i = 0; i < THREADS; i++) {
		wins += races[i].wins;
		losses += races[i].losses;
	}
	assert_int_equal(wins, ROUNDS);
	assert_int_equal(losses, ROUNDS * (THREADS - 1));
	assert_int_equal(figures(pool, SEG_ALL).misuses_total, losses);
	assert_int_equal(figures(pool, SEG_ALL).active, 0);
	end_both(pool, b);
}

static void test_arguments_that_are_none(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	struct seg_pool *other = make_pool(b);
	void *segment = seg_alloc(pool, SEG_MIN_BYTES + 1), *found;
	struct seg_handle handle = handle_of(pool, segment), none = { 0 };

	(void)state;
	assert_int_equal(seg_handle_of(pool, NULL, &none), -EINVAL);
	assert_int_equal(seg_handle_of(pool, segment, NULL), -EINVAL);
	assert_int_equal(seg_handle_of(pool, (char *)segment + 1, &none),
			 -EINVAL);
	assert_int_equal(seg_handle_of(pool, &none, &none), -EINVAL);
	assert_int_equal(seg_handle_of(other, segment, &none), -EINVAL);
	assert_int_equal(seg_resolve(pool, NULL, &found), -EINVAL);
	assert_int_equal(seg_resolve(pool, &handle, NULL), -EINVAL);
	assert_int_equal(seg_release_handle(pool, NULL), -EINVAL);
	assert_int_equal(seg_release_handle(pool, &none), -EINVAL);
	assert_int_equal(none.generation, 0);
	assert_int_equal(seg_release(pool, segment), 0);
	assert_int_equal(seg_handle_of(pool, segment, &none), -ESTALE);
	end_pool(other);
	end_both(pool, b);
}

/* ------------------------------------------------------------------ misuse */

struct scene {
	struct events events;
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct seg_pool *other;
	struct seg_txlog *log;
};

static struct scene scene_begin(void)
{
	return (struct scene){ .events = EVENTS_INIT,
			       .budget = new_budget(4 * MIB) };
}

static void scene_open(struct scene *s)
{
	s->pool = make_pool_events(s->budget, &s->events, SEG_LOG_ERROR);
	s->other = make_pool(s->budget);
	assert_int_equal(seg_txlog_create(s->pool, NULL, &s->log), 0);
}

static void scene_end(struct scene *s)
{
	seg_txlog_destroy(s->log);
	end_pool(s->other);
	end_both(s->pool, s->budget);
}

/* All figures but the count of misuses. */
static struct seg_pool_stats figures_but_misuses(struct seg_pool *pool)
{
	struct seg_pool_stats s = figures(pool, SEG_ALL);

	s.misuses_total = 0;
	return s;
}

/* One misuse: what is called with what, and what must be said of it. */
struct misuse_case {
	enum seg_misuse what;
	const char *text;
	int error;
	int (*call)(struct seg_pool *pool, void *argument);
	void *argument;
	const void *address;
};

static void expect_misuse(struct scene *s, const struct misuse_case *m)
{
	struct seg_pool_stats before = figures_but_misuses(s->pool), after;
	uint64_t misuses = figures(s->pool, SEG_ALL).misuses_total;
	unsigned calls = s->events.misuses;
	unsigned lines = recorder_count(&s->events.lines);
	char line[RECORDER_WIDTH];

	errno = 4711;
	assert_int_equal(m->call(s->pool, m->argument), m->error);
	assert_int_equal(errno, 4711);
	assert_int_equal(s->events.misuses, calls + 1);
	assert_int_equal(s->events.what, m->what);
	assert_ptr_equal(s->events.address, m->address);
	snprintf(line, sizeof(line), "Misuse: %s at %p", m->text, m->address);
	assert_int_equal(recorder_count(&s->events.lines), lines + 1);
	assert_string_equal(s->events.lines.line[lines], line);
	assert_int_equal(s->events.lines.level[lines], SEG_LOG_ERROR);
	assert_int_equal(figures(s->pool, SEG_ALL).misuses_total, misuses + 1);
	after = figures_but_misuses(s->pool);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_true(seg_pool_is_valid(s->pool));
}

static int call_release(struct seg_pool *pool, void *segment)
{
	return seg_release(pool, segment);
}

static int call_release_handle(struct seg_pool *pool, void *handle)
{
	return seg_release_handle(pool, handle);
}

static int call_page_release(struct seg_pool *pool, void *page)
{
	(void)pool;
	return seg_page_release(page);
}

static void expect_wrong_release(struct scene *s, enum seg_misuse what,
				 const char *text, int error, void *address)
{
	struct misuse_case m = { what, text, error, call_release, address,
				 address };

	expect_misuse(s, &m);
}

static void test_foreign_addresses(void **state)
{
	struct scene s = scene_begin();
	int local;
	void *heap = malloc(100), *others;

	(void)state;
	scene_open(&s);
	others = seg_alloc(s.other, 1);
	void *foreign[] = { &local, heap, others, (void *)1, (void *)-1,
			    (void *)(uintptr_t)0x7fffffffffff,
			    (void *)(uintptr_t)0x800000000000 };
	for (size_t i = 0; i < sizeof(foreign) / sizeof(*foreign); i++)
		expect_wrong_release(&s, SEG_MISUSE_FOREIGN, "foreign address",
				     -EINVAL, foreign[i]);
	assert_int_equal(seg_release(s.other, others), 0);
	free(heap);
	scene_end(&s);
}

static void test_interior_addresses(void **state)
{
	struct scene s = scene_begin();
	char *segment;

	(void)state;
	scene_open(&s);
	segment = seg_alloc(s.pool, slice_of(1));
	expect_wrong_release(&s, SEG_MISUSE_INTERIOR, "interior address",
			     -EINVAL, segment + 1);
	expect_wrong_release(&s, SEG_MISUSE_INTERIOR, "interior address",
			     -EINVAL, segment + SEG_MIN_BYTES);
	expect_wrong_release(&s, SEG_MISUSE_INTERIOR, "interior address",
			     -EINVAL, segment + slice_of(1) - 1);
	assert_int_equal(seg_release(s.pool, segment), 0);
	scene_end(&s);
}

static void test_double_releases(void **state)
{
	struct scene s = scene_begin();
	char *two[2], *never;

	(void)state;
	scene_open(&s);
	two[0] = seg_alloc(s.pool, 1);
	two[1] = seg_alloc(s.pool, 1);
	never = two[1] + 5 * SEG_MIN_BYTES;
	assert_int_equal(seg_release(s.pool, two[0]), 0);
	expect_wrong_release(&s, SEG_MISUSE_DOUBLE, "double release", -ESTALE,
			     two[0]);
	expect_wrong_release(&s, SEG_MISUSE_DOUBLE, "double release", -ESTALE,
			     never);
	assert_int_equal(seg_release(s.pool, two[1]), 0);
	expect_wrong_release(&s, SEG_MISUSE_DOUBLE, "double release", -ESTALE,
			     two[1]);
	scene_end(&s);
}

static void test_releases_after_the_unmapping(void **state)
{
	struct scene s = scene_begin();
	char *segment;

	(void)state;
	scene_open(&s);
	segment = seg_alloc(s.pool, 1);
	assert_int_equal(seg_release(s.pool, segment), 0);
	assert_int_equal(seg_pool_trim(s.pool, NULL), 0);
	expect_wrong_release(&s, SEG_MISUSE_UNMAPPED, "unmapped region",
			     -ESTALE, segment);
	scene_end(&s);
}

static void test_stale_handles(void **state)
{
	struct scene s = scene_begin();
	struct seg_handle old;
	void *segment;

	(void)state;
	scene_open(&s);
	segment = seg_alloc(s.pool, 1);
	old = handle_of(s.pool, segment);
	assert_int_equal(seg_release(s.pool, segment), 0);
	struct misuse_case m = { SEG_MISUSE_STALE, "stale handle", -ESTALE,
				 call_release_handle, &old, segment };
	expect_misuse(&s, &m);
	assert_ptr_equal(seg_alloc(s.pool, 1), segment);
	expect_misuse(&s, &m);
	assert_int_equal(seg_release(s.pool, segment), 0);
	assert_int_equal(seg_pool_trim(s.pool, NULL), 0);
	m.what = SEG_MISUSE_UNMAPPED;
	m.text = "unmapped region";
	expect_misuse(&s, &m);
	scene_end(&s);
}

/* No region of the pool ever had that number, whatever the address is. */
static void test_handles_that_never_were(void **state)
{
	struct scene s = scene_begin();
	void *segment;

	(void)state;
	scene_open(&s);
	segment = seg_alloc(s.pool, slice_of(1));
	void *addresses[] = { segment, (char *)segment + 1, &s };
	for (int i = 0; i < 6; i++) {
		void *address = addresses[i / 2];
		struct seg_handle handle = { .segment = address,
					     .region = i % 2 ? 0 : UINT64_MAX,
					     .generation = 1 };
		struct misuse_case m = { SEG_MISUSE_FOREIGN, "foreign address",
					 -EINVAL, call_release_handle, &handle,
					 address };

		expect_misuse(&s, &m);
	}
	assert_int_equal(seg_release(s.pool, segment), 0);
	scene_end(&s);
}

/* Nor at an address whose region is gone. */
static void test_a_region_that_never_was(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	struct seg_handle handle = handle_of(pool, seg_alloc(pool, 1));

	(void)state;
	assert_int_equal(seg_release_handle(pool, &handle), 0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_stale(pool, handle);
	handle.region = 99999;
	assert_int_equal(seg_release_handle(pool, &handle), -EINVAL);
	end_both(pool, b);
}

static void test_pages_of_a_log(void **state)
{
	struct scene s = scene_begin();
	const size_t bytes[] = { 1, 1 };
	struct seg_page *page;

	(void)state;
	scene_open(&s);
	assert_int_equal(seg_page_create(s.pool, bytes, 2, &page), 0);
	assert_int_equal(seg_txlog_put(s.log, 1, page, NULL), 0);
	struct misuse_case m = { SEG_MISUSE_OWNER,
				 "page owned by a log or cache", -EBUSY,
				 call_page_release, page, page };
	expect_misuse(&s, &m);
	assert_int_equal(seg_txlog_abort(s.log), 0);
	m = (struct misuse_case){ SEG_MISUSE_DOUBLE, "double release", -ESTALE,
				  call_page_release, page, page };
	expect_misuse(&s, &m);
	scene_end(&s);
}

/* A question is no misuse. */
static void test_asking_is_not_reported(void **state)
{
	struct scene s = scene_begin();
	struct seg_handle handle = { .segment = &s, .region = 1 };
	void *found;

	(void)state;
	scene_open(&s);
	assert_int_equal(seg_size(s.pool, &s), 0);
	assert_int_equal(seg_handle_of(s.pool, &s, &handle), -EINVAL);
	assert_int_equal(seg_resolve(s.pool, &handle, &found), -ESTALE);
	assert_int_equal(s.events.misuses, 0);
	assert_int_equal(recorder_count(&s.events.lines), 0);
	scene_end(&s);
}

/* A callback that does it again is not told of it. */
struct again {
	struct seg_pool *pool;
	unsigned calls;
};

static void release_again(void *ctx, enum seg_misuse what, const void *address)
{
	struct again *again = ctx;

	(void)what;
	if (++again->calls < 10)
		seg_release(again->pool, (void *)(uintptr_t)address);
}

static void test_a_callback_is_not_told_of_its_own_misuse(void **state)
{
	struct again again = { 0 };
	struct seg_budget *b = new_budget(MIB);
	int local;

	(void)state;
	again.pool = make_pool_with((struct seg_pool_options){
		.budget = b, .misuse = release_again, .misuse_ctx = &again });
	assert_int_equal(seg_release(again.pool, &local), -EINVAL);
	assert_int_equal(again.calls, 1);
	assert_int_equal(figures(again.pool, SEG_ALL).misuses_total, 2);
	end_both(again.pool, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_handle_lives_as_long_as_its_hand_out),
		AT_ONE_PLACE(test_the_same_address_in_another_region),
		AT_ONE_PLACE(test_the_same_address_inside_a_larger_segment),
		AT_ONE_PLACE(test_the_same_address_behind_a_smaller_region),
		cmocka_unit_test(test_no_two_handles_are_equal),
		cmocka_unit_test(test_a_double_release_has_one_winner),
		cmocka_unit_test(test_arguments_that_are_none),
		cmocka_unit_test(test_foreign_addresses),
		cmocka_unit_test(test_interior_addresses),
		cmocka_unit_test(test_double_releases),
		cmocka_unit_test(test_releases_after_the_unmapping),
		cmocka_unit_test(test_stale_handles),
		cmocka_unit_test(test_handles_that_never_were),
		cmocka_unit_test(test_a_region_that_never_was),
		cmocka_unit_test(test_pages_of_a_log),
		cmocka_unit_test(test_asking_is_not_reported),
		cmocka_unit_test(test_a_callback_is_not_told_of_its_own_misuse),
	};

	return run_group(tests);
}
