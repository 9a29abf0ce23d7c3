/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ways out of a cache (P8): each value leaves by one of them, the listener
 * hears of it once, with the cause, never while it is pinned; and what threads
 * do to one entry at the same time.
 */
#include "caches.h"

enum { THREADS = 4, ROUNDS = 500 };

static void assert_call(struct box *box, uint64_t i, uint64_t key,
			uint64_t weight, enum seg_cause cause)
{
	assert_true(i < box->heard);
	assert_int_equal(box->call[i].key, key);
	assert_ptr_equal(box->call[i].value, number(key));
	assert_int_equal(box->call[i].weight, weight);
	assert_int_equal(box->call[i].cause, cause);
}

/* The listener was silent on remove, clear and replace. */
static void test_the_listener_hears_of_every_way_out(void **state)
{
	struct box *box = box_begin(100);
	struct seg_cache *c = box->cache;

	(void)state;
	put(c, 1, number(1), 60);
	put(c, 2, number(2), 41);
	assert_call(box, 0, 1, 60, SEG_CAUSE_EVICTED);
	assert_int_equal(seg_cache_replace(c, 2, number(9), 3, NULL), 0);
	assert_call(box, 1, 2, 41, SEG_CAUSE_REPLACED);
	assert_int_equal(seg_cache_remove(c, 2, NULL), 0);
	assert_int_equal(box->call[2].cause, SEG_CAUSE_REMOVED);
	assert_ptr_equal(box->call[2].value, number(9));
	put(c, 3, number(3), 5);
	assert_int_equal(seg_cache_shrink(c, 4, NULL), 0);
	assert_call(box, 3, 3, 5, SEG_CAUSE_SHRUNK);
	put(c, 4, number(4), 50);
	assert_int_equal(seg_cache_set_max_weight(c, 49), 0);
	assert_call(box, 4, 4, 50, SEG_CAUSE_SHRUNK);
	put(c, 5, number(5), 6);
	assert_int_equal(seg_cache_clear(c), 0);
	assert_call(box, 5, 5, 6, SEG_CAUSE_CLEARED);
	assert_int_equal(box->heard, 6);
	assert_int_equal(cache_stats(c).weight, 0);
	box_end(box);
}

static void test_destroy_is_a_way_out(void **state)
{
	static uint64_t causes[8];
	struct box *box = box_begin(100);

	(void)state;
	for (uint64_t i = 0; i < 5; i++)
		put(box->cache, i, number(i), 10);
	assert_true(seg_cache_is_valid(box->cache));
	assert_int_equal(seg_cache_destroy(box->cache), 0);
	assert_int_equal(box->heard, 5);
	for (uint64_t i = 0; i < 5; i++) {
		causes[box->call[i].cause]++;
		assert_int_equal(box_times(box, number(i)), 1);
	}
	assert_int_equal(causes[SEG_CAUSE_DESTROYED], 5);
	free(box);
}

/* One put in whose way are many. */
static void test_many_leave_for_one(void **state)
{
	struct box *box = box_begin(1000);

	(void)state;
	for (uint64_t i = 0; i < 1000; i++)
		put(box->cache, i, number(i), 1);
	put(box->cache, 1000, number(1000), 1000);
	assert_int_equal(box->heard, 1000);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(box_times(box, number(i)), 1);
	assert_int_equal(cache_stats(box->cache).weight, 1000);
	box_end(box);
}

/* ---- not there, not that one, pinned ---- */

/* Two counters were one space of keys, and the wrong entry was removed. */
static void test_remove_by_identity(void **state)
{
	struct box *box = box_begin(100);

	(void)state;
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), -ENOENT);
	put(box->cache, 1, number(1), 10);
	assert_int_equal(seg_cache_remove(box->cache, 1, number(2)), -ENOENT);
	assert_true(has(box->cache, 1));
	assert_int_equal(seg_cache_remove(box->cache, 1, number(1)), 0);
	assert_int_equal(seg_cache_remove(box->cache, 1, number(1)), -ENOENT);
	assert_int_equal(box->heard, 1);
	box_end(box);
}

/* The loser of an insertion has its value still, and nobody releases it. */
static void test_a_lost_insertion_leaves_the_value_to_the_caller(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin;

	(void)state;
	put(box->cache, 1, number(1), 10);
	assert_int_equal(seg_cache_put(box->cache, 1, number(2), 90, NULL),
			 -EEXIST);
	assert_int_equal(seg_cache_put(box->cache, 1, number(2), 90, &pin),
			 -EEXIST);
	assert_int_equal(box->heard, 0);
	pin = get(box->cache, 1);
	assert_ptr_equal(seg_pin_value(&pin), number(1));
	unpin(&pin);
	box_end(box);
}

static void test_remove_of_a_pinned_entry(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin a = put_pinned(box->cache, 1, number(1), 70);
	struct seg_pin b = get(box->cache, 1);

	(void)state;
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	assert_false(has(box->cache, 1));
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), -ENOENT);
	assert_int_equal(cache_stats(box->cache).entries, 0);
	assert_int_equal(cache_stats(box->cache).pinned_weight, 70);
	assert_true(seg_cache_is_valid(box->cache));
	assert_int_equal(seg_cache_destroy(box->cache), -EBUSY);
	put(box->cache, 1, number(2), 90);
	unpin(&a);
	assert_int_equal(box->heard, 0);
	assert_ptr_equal(seg_pin_value(&b), number(1));
	unpin(&b);
	assert_call(box, 0, 1, 70, SEG_CAUSE_REMOVED);
	assert_int_equal(cache_stats(box->cache).weight, 90);
	box_end(box);
}

/* Replaced pages belonged to nobody; readers went on in closed ones. */
static void test_replace_of_a_pinned_entry(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin[10];

	(void)state;
	pin[0] = put_pinned(box->cache, 1, number(0), 10);
	for (uint64_t i = 1; i < 10; i++)
		assert_int_equal(seg_cache_replace(box->cache, 1, number(i),
						   10 + i, &pin[i]), 0);
	assert_int_equal(cache_stats(box->cache).entries, 1);
	assert_int_equal(cache_stats(box->cache).pinned_weight, 145);
	assert_int_equal(box->heard, 0);
	for (uint64_t i = 0; i < 10; i++) {
		assert_ptr_equal(seg_pin_value(&pin[i]), number(i));
		unpin(&pin[i]);
		assert_int_equal(box->heard, i < 9 ? i + 1 : 9);
	}
	for (uint64_t i = 0; i < 9; i++) {
		assert_ptr_equal(box->call[i].value, number(i));
		assert_int_equal(box->call[i].weight, 10 + i);
		assert_int_equal(box->call[i].cause, SEG_CAUSE_REPLACED);
	}
	box_end(box);
}

/* Whatever the policy lets go of for it, the replaced one included. */
static void test_a_replace_never_makes_it_too_heavy(void **state)
{
	uint64_t seed = random_seed(5);
	struct box *box = box_begin(100);

	(void)state;
	put(box->cache, 1, number(1), 60);
	put(box->cache, 2, number(2), 40);
	assert_int_equal(seg_cache_replace(box->cache, 1, number(3), 70,
					   NULL), 0);
	assert_true(cache_stats(box->cache).weight <= 100);
	for (uint64_t i = 4; i < 2000; i++) {
		assert_int_equal(seg_cache_replace(
			box->cache, random_below(&seed, 8), number(i),
			1 + random_below(&seed, 100), NULL), 0);
		assert_true(cache_stats(box->cache).weight <= 100);
	}
	box_end(box);
}

/* Guards were drained by force when a cache was cleared. */
static void test_clear_leaves_pins_alone(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin = put_pinned(box->cache, 1, number(1), 10);

	(void)state;
	put(box->cache, 2, number(2), 10);
	assert_int_equal(seg_cache_clear(box->cache), 0);
	assert_int_equal(box->heard, 1);
	assert_false(has(box->cache, 1));
	assert_ptr_equal(seg_pin_value(&pin), number(1));
	assert_int_equal(seg_cache_clear(box->cache), 0);
	assert_int_equal(box->heard, 1);
	unpin(&pin);
	assert_call(box, 1, 1, 10, SEG_CAUSE_CLEARED);
	box_end(box);
}

static void test_take(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin;
	void *value = number(4711);

	(void)state;
	assert_int_equal(seg_cache_take(box->cache, 1, &value), -ENOENT);
	assert_ptr_equal(value, number(4711));
	pin = put_pinned(box->cache, 1, number(1), 30);
	assert_int_equal(seg_cache_take(box->cache, 1, &value), -EBUSY);
	assert_ptr_equal(value, number(4711));
	assert_true(has(box->cache, 1));
	unpin(&pin);
	assert_int_equal(seg_cache_take(box->cache, 1, &value), 0);
	assert_ptr_equal(value, number(1));
	assert_int_equal(cache_stats(box->cache).weight, 0);
	assert_int_equal(seg_cache_take(box->cache, 1, &value), -ENOENT);
	assert_int_equal(box->heard, 0);
	assert_int_equal(cache_stats(box->cache).takes_total, 1);
	box_end(box);
}

static void test_a_refused_destroy_changes_nothing(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin = put_pinned(box->cache, 1, number(1), 30);

	(void)state;
	put(box->cache, 2, number(2), 30);
	assert_int_equal(seg_cache_destroy(box->cache), -EBUSY);
	assert_int_equal(box->heard, 0);
	assert_true(has(box->cache, 1));
	assert_true(has(box->cache, 2));
	put(box->cache, 3, number(3), 80);
	assert_int_equal(box_times(box, number(2)), 1);
	unpin(&pin);
	box_end(box);
}

/* ---- the listener ---- */

/* Outside locks: it uses the cache that called it. */
static void use_the_cache(struct box *box, const struct heard_call *call)
{
	uint64_t heir = call->key + 1000;
	void *value;

	if (call->key >= 1000)
		return;
	require(!has(box->cache, call->key));
	require(seg_cache_put(box->cache, heir, number(heir), 1, NULL) == 0);
	require(has(box->cache, heir));
	require(seg_cache_take(box->cache, heir, &value) == 0);
	put(box->cache, heir, value, 1);
	require(seg_cache_remove(box->cache, heir, value) == 0);
	require(seg_cache_shrink(box->cache, 100, NULL) == 0);
	if (call->cause == SEG_CAUSE_REMOVED)
		require(seg_cache_clear(box->cache) == 0);
}

static void test_the_listener_may_use_the_cache(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin;

	(void)state;
	box->also = use_the_cache;
	put(box->cache, 1, number(1), 60);
	put(box->cache, 2, number(2), 60);
	assert_int_equal(box_times(box, number(1)), 1);
	pin = get(box->cache, 2);
	put(box->cache, 3, number(3), 60);
	assert_int_equal(seg_cache_remove(box->cache, 2, NULL), 0);
	unpin(&pin);
	assert_int_equal(box_times(box, number(2)), 1);
	assert_int_equal(box_times(box, number(3)), 1);
	assert_int_equal(cache_stats(box->cache).entries, 0);
	box_end(box);
}

static void spoil_errno(struct box *box, const struct heard_call *call)
{
	(void)box;
	(void)call;
	errno = 4712;
}

static void test_errno_is_left_alone(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin = put_pinned(box->cache, 1, number(1), 60);

	(void)state;
	box->also = spoil_errno;
	errno = 4711;
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	assert_int_equal(seg_unpin(&pin), 0);
	assert_int_equal(box->heard, 1);
	assert_int_equal(errno, 4711);
	put(box->cache, 2, number(2), 60);
	assert_int_equal(seg_cache_take(box->cache, 3, &(void *){ NULL }),
			 -ENOENT);
	assert_int_equal(seg_cache_clear(box->cache), 0);
	assert_int_equal(errno, 4711);
	box_end(box);
}

struct unpinner {
	struct seg_pin pin;
	pthread_t self;
};

static void *unpin_here(void *arg)
{
	struct unpinner *u = arg;

	u->self = pthread_self();
	return seg_unpin(&u->pin) ? arg : NULL;
}

/* Listeners ran late in other threads, after the log had closed the page. */
static void test_the_listener_runs_in_the_thread_that_unpins(void **state)
{
	struct box *box = box_begin(100);
	struct unpinner u = { .pin = put_pinned(box->cache, 1, number(1), 9) };
	struct threads threads;

	(void)state;
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	threads_start(&threads, 1, unpin_here, &u, 0);
	assert_int_equal(threads_join(&threads), 0);
	assert_int_equal(box->heard, 1);
	assert_true(pthread_equal(box->call[0].thread, u.self));
	put(box->cache, 2, number(2), 60);
	put(box->cache, 3, number(3), 60);
	assert_true(pthread_equal(box->call[1].thread, pthread_self()));
	box_end(box);
}

static void test_lines_word_for_word(void **state)
{
	struct box *box = box_begin_with((struct seg_cache_options){
		.max_weight = 100, .name = "RecordPageCache",
		.log_level = SEG_LOG_EVICT });

	(void)state;
	put(box->cache, 77, number(1), 60);
	put(box->cache, 78, number(2), 60);
	assert_string_equal(box->lines.line[0], "RecordPageCache EVICT: "
			    "returning page 77, cause=EVICTED");
	assert_int_equal(box->lines.level[0], SEG_LOG_EVICT);
	assert_int_equal(seg_cache_shrink(box->cache, 0, NULL), 0);
	assert_string_equal(box->lines.line[1], "RecordPageCache EVICT: "
			    "returning page 78, cause=SHRUNK");
	put(box->cache, 79, number(3), 60);
	assert_int_equal(seg_cache_remove(box->cache, 79, NULL), 0);
	put(box->cache, 79, number(4), 60);
	assert_int_equal(seg_cache_clear(box->cache), 0);
	assert_int_equal(recorder_count(&box->lines), 2);
	box_end(box);
}

static void test_levels_of_lines(void **state)
{
	const enum seg_log_level levels[] = { SEG_LOG_DEFAULT, SEG_LOG_OFF,
		SEG_LOG_REGION, SEG_LOG_EVICT, SEG_LOG_SEGMENT };

	(void)state;
	for (int i = 0; i < 5; i++) {
		struct box *box = box_begin_with((struct seg_cache_options){
			.max_weight = 100, .log_level = levels[i] });

		put(box->cache, 1, number(1), 60);
		put(box->cache, 2, number(2), 60);
		assert_int_equal(recorder_count(&box->lines),
				 levels[i] >= SEG_LOG_EVICT);
		assert_int_equal(recorder_has(&box->lines, "Cache EVICT: "),
				 levels[i] >= SEG_LOG_EVICT);
		box_end(box);
	}
}

/* ---- at the same time ---- */

/* The value has left when its listener runs, however long that takes. */
struct paused {
	sem_t inside, go_on;
};

static void pause_inside(struct box *box, const struct heard_call *call)
{
	struct paused *p = box->also_ctx;

	if (call->value != number(1))
		return;
	sem_post(&p->inside);
	wait_for(&p->go_on);
}

static void *put_heavy(void *c)
{
	return seg_cache_put(c, 2, number(2), 100, NULL) ? c : NULL;
}

/* A pin came while its entry was being evicted, and held a closed page. */
static void test_a_late_pin_during_eviction(void **state)
{
	struct box *box = box_begin(100);
	struct paused p;
	struct threads threads;
	struct seg_pin pin;
	void *value;

	(void)state;
	sem_init(&p.inside, 0, 0);
	sem_init(&p.go_on, 0, 0);
	box->also = pause_inside;
	box->also_ctx = &p;
	put(box->cache, 1, number(1), 60);
	threads_start(&threads, 1, put_heavy, box->cache, 0);
	wait_for(&p.inside);
	assert_int_equal(seg_cache_get(box->cache, 1, &pin), -ENOENT);
	assert_int_equal(seg_cache_take(box->cache, 1, &value), -ENOENT);
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), -ENOENT);
	/* No lock is held: others go on, with that key, too. */
	pin = put_pinned(box->cache, 1, number(3), 10);
	assert_true(seg_cache_is_valid(box->cache));
	unpin(&pin);
	assert_int_equal(cache_stats(box->cache).released_total +
			 cache_stats(box->cache).entries,
			 cache_stats(box->cache).inserts_total - 1);
	sem_post(&p.go_on);
	assert_int_equal(threads_join(&threads), 0);
	assert_int_equal(box_times(box, number(1)), 1);
	box_end(box);
	sem_destroy(&p.inside);
	sem_destroy(&p.go_on);
}

/* Each round, all do their operation on one key at once. */
struct player {
	struct box *box;
	pthread_barrier_t *barrier;
	unsigned me;
	uint64_t won;
	int (*play)(struct player *p, uint64_t round);
};

static void *play_rounds(void *arg)
{
	struct player *p = arg;
	int ret = 0;

	for (uint64_t round = 0; round < ROUNDS && !ret; round++) {
		pthread_barrier_wait(p->barrier);
		ret = p->play(p, round);
		pthread_barrier_wait(p->barrier);
		require(ret == 0);
	}
	return ret ? arg : NULL;
}

/* What all of them won. */
static uint64_t play_all(struct box *box,
			 int (*play)(struct player *p, uint64_t round))
{
	struct player players[THREADS];
	pthread_barrier_t barrier;
	struct threads threads;
	uint64_t won = 0;

	pthread_barrier_init(&barrier, NULL, THREADS);
	for (unsigned i = 0; i < THREADS; i++)
		players[i] = (struct player){ box, &barrier, i, 0, play };
	threads_start(&threads, THREADS, play_rounds, players,
		      sizeof(*players));
	assert_int_equal(threads_join(&threads), 0);
	for (unsigned i = 0; i < THREADS; i++)
		won += players[i].won;
	pthread_barrier_destroy(&barrier);
	return won;
}

/* Of those that put a key at the same time, one is in. */
static int play_put(struct player *p, uint64_t round)
{
	int ret = seg_cache_put(p->box->cache, round,
				number(round * THREADS + p->me), 1, NULL);

	p->won += ret == 0;
	return ret == -EEXIST ? 0 : ret;
}

static void test_one_of_the_puts_wins(void **state)
{
	struct box *box = box_begin(ROUNDS);

	(void)state;
	assert_int_equal(play_all(box, play_put), ROUNDS);
	assert_int_equal(cache_stats(box->cache).entries, ROUNDS);
	box_end(box);
}

/* get() and then remove() took away another thread's page in between. */
static int play_take(struct player *p, uint64_t round)
{
	struct seg_cache *c = p->box->cache;
	struct seg_pin pin;
	void *value;
	int ret;

	if (p->me == 0) {
		ret = seg_cache_replace(c, 1, number(round), 1, NULL);
		return ret;
	}
	if (p->me == 1 && seg_cache_get(c, 1, &pin) == 0)
		return seg_unpin(&pin);
	ret = seg_cache_take(c, 1, &value);
	p->won += ret == 0;
	return ret == -ENOENT || ret == -EBUSY ? 0 : ret;
}

static void test_take_against_get_and_replace(void **state)
{
	struct box *box = box_begin(10);
	uint64_t won;

	(void)state;
	won = play_all(box, play_take);
	assert_int_equal(won, cache_stats(box->cache).takes_total);
	assert_int_equal(won + box->heard + cache_stats(box->cache).entries,
			 ROUNDS);
	box_end(box);
}

/* Two entries fit: whoever puts makes another go, which others pin. */
static int play_evict(struct player *p, uint64_t round)
{
	struct seg_cache *c = p->box->cache;
	uint64_t own = round * THREADS + p->me;
	struct seg_pin pin;
	int ret = 0;

	if (p->me % 2)
		return seg_cache_put(c, own, number(own), 50, NULL);
	for (uint64_t i = 0; i < 2 * THREADS && !ret; i++) {
		if (i > own || seg_cache_get(c, own - i, &pin))
			continue;
		require(seg_pin_value(&pin) == number(own - i));
		require(box_times(p->box, number(own - i)) == 0);
		p->won++;
		ret = seg_unpin(&pin);
	}
	return ret;
}

static void test_evict_against_pin(void **state)
{
	struct box *box = box_begin(100);

	(void)state;
	play_all(box, play_evict);
	assert_int_equal(box->heard + cache_stats(box->cache).entries,
			 ROUNDS * THREADS / 2);
	assert_int_equal(cache_stats(box->cache).pinned_weight, 0);
	box_end(box);
}

/* What is put while all is cleared is in, or was heard of. */
static int play_clear(struct player *p, uint64_t round)
{
	uint64_t own = round * THREADS + p->me;

	if (p->me == 0)
		return seg_cache_clear(p->box->cache);
	return seg_cache_put(p->box->cache, own, number(own), 1, NULL);
}

static void test_clear_against_put(void **state)
{
	struct box *box = box_begin(1000000);

	(void)state;
	play_all(box, play_clear);
	assert_int_equal(box_heard(box) + cache_stats(box->cache).entries,
			 ROUNDS * (THREADS - 1));
	assert_int_equal(seg_cache_clear(box->cache), 0);
	assert_int_equal(cache_stats(box->cache).weight, 0);
	box_end(box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_listener_hears_of_every_way_out),
		cmocka_unit_test(test_destroy_is_a_way_out),
		cmocka_unit_test(test_many_leave_for_one),
		cmocka_unit_test(test_remove_by_identity),
		cmocka_unit_test(
			test_a_lost_insertion_leaves_the_value_to_the_caller),
		cmocka_unit_test(test_remove_of_a_pinned_entry),
		cmocka_unit_test(test_replace_of_a_pinned_entry),
		cmocka_unit_test(test_a_replace_never_makes_it_too_heavy),
		cmocka_unit_test(test_clear_leaves_pins_alone),
		cmocka_unit_test(test_take),
		cmocka_unit_test(test_a_refused_destroy_changes_nothing),
		cmocka_unit_test(test_the_listener_may_use_the_cache),
		cmocka_unit_test(test_errno_is_left_alone),
		cmocka_unit_test(
			test_the_listener_runs_in_the_thread_that_unpins),
		cmocka_unit_test(test_lines_word_for_word),
		cmocka_unit_test(test_levels_of_lines),
		cmocka_unit_test(test_a_late_pin_during_eviction),
		cmocka_unit_test(test_one_of_the_puts_wins),
		cmocka_unit_test(test_take_against_get_and_replace),
		cmocka_unit_test(test_evict_against_pin),
		cmocka_unit_test(test_clear_against_put),
	};

	return run_group(tests);
}
