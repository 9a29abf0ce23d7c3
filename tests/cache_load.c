/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * get_or_load: one loader for a key, whose result or error all get who asked;
 * what becomes of a key that is put, removed or replaced meanwhile; and that no
 * loader is run while anything is locked.  (Reads from disk ran inside the
 * map's own step for the key: threads waited for each other for ever.)
 */
#include "caches.h"

enum { WAITERS = 4 };

/* What a loader is to do, and what it saw. */
struct source {
	struct box *box;
	void *value;
	uint64_t weight;
	int error;
	uint64_t calls;
	bool pauses;
	sem_t inside, go_on;
	int (*also)(struct source *s, uint64_t key);
	int also_ret;
};

static int load(void *ctx, uint64_t key, void **ret_value,
		uint64_t *ret_weight)
{
	struct source *s = ctx;

	s->calls++;
	if (s->pauses) {
		sem_post(&s->inside);
		wait_for(&s->go_on);
	}
	if (s->also)
		s->also_ret = s->also(s, key);
	*ret_value = s->value;
	*ret_weight = s->weight;
	return s->error;
}

static void source_init(struct source *s, struct box *box, uint64_t n)
{
	*s = (struct source){ .box = box, .value = number(n), .weight = 10 };
	sem_init(&s->inside, 0, 0);
	sem_init(&s->go_on, 0, 0);
}

static void source_end(struct source *s)
{
	sem_destroy(&s->inside);
	sem_destroy(&s->go_on);
}

static int get_from(struct source *s, uint64_t key, struct seg_pin *ret_pin)
{
	return seg_cache_get_or_load(s->box->cache, key, load, s, 0, ret_pin);
}

static void test_it_loads_once(void **state)
{
	struct box *box = box_begin(100);
	struct seg_cache_stats stats;
	struct source s;
	struct seg_pin a, b;

	(void)state;
	source_init(&s, box, 1);
	assert_int_equal(get_from(&s, 5, &a), 0);
	assert_int_equal(get_from(&s, 5, &b), 0);
	assert_int_equal(s.calls, 1);
	assert_ptr_equal(seg_pin_value(&a), number(1));
	assert_ptr_equal(seg_pin_value(&b), number(1));
	stats = cache_stats(box->cache);
	assert_int_equal(stats.pinned_weight, 10);
	assert_int_equal(stats.loads_total, 1);
	assert_int_equal(stats.load_failures_total, 0);
	assert_int_equal(stats.misses_total, 1);
	assert_int_equal(stats.hits_total, 1);
	assert_int_equal(stats.inserts_total, 1);
	unpin(&a);
	unpin(&b);
	assert_int_equal(cache_stats(box->cache).weight, 10);
	box_end(box);
	source_end(&s);
}

/* Errors were turned into empty results: it is the loader's, and nothing of it
 * stays. */
static void test_a_loader_that_fails(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin = { .version = 4711 };
	struct source s;

	(void)state;
	source_init(&s, box, 1);
	s.error = -EIO;
	for (uint64_t i = 1; i <= 50; i++) {
		assert_int_equal(get_from(&s, 5, &pin), -EIO);
		assert_int_equal(s.calls, i);
		assert_int_equal(seg_cache_get(box->cache, 5, &pin), -ENOENT);
	}
	assert_int_equal(pin.version, 4711);
	assert_int_equal(cache_stats(box->cache).load_failures_total, 50);
	assert_int_equal(cache_stats(box->cache).inserts_total, 0);
	assert_int_equal(cache_stats(box->cache).pinned_weight, 0);
	s.error = 0;
	assert_int_equal(get_from(&s, 5, &pin), 0);
	unpin(&pin);
	box_end(box);
	source_end(&s);
}

/* What it brought is its own still. */
static void test_a_loader_that_brings_nothing_good(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin;
	struct source s;

	(void)state;
	source_init(&s, box, 1);
	s.value = NULL;
	assert_int_equal(get_from(&s, 5, &pin), -EINVAL);
	s.value = number(1);
	s.weight = 0;
	assert_int_equal(get_from(&s, 5, &pin), -EINVAL);
	s.weight = (UINT64_C(1) << 56) + 1;
	assert_int_equal(get_from(&s, 5, &pin), -E2BIG);
	assert_int_equal(s.calls, 3);
	assert_int_equal(cache_stats(box->cache).load_failures_total, 3);
	assert_int_equal(box->heard, 0);
	box_end(box);
	source_end(&s);
}

/* The table may be full of pins: what was loaded still comes. */
static void test_heavier_than_the_maximum(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin a;
	struct source s;

	(void)state;
	source_init(&s, box, 1);
	s.weight = 101;
	put(box->cache, 1, number(7), 50);
	assert_int_equal(get_from(&s, 5, &a), 0);
	assert_ptr_equal(seg_pin_value(&a), number(1));
	assert_int_equal(cache_stats(box->cache).pinned_weight, 101);
	assert_false(has(box->cache, 5));
	assert_int_equal(box->heard, 0);
	assert_true(seg_cache_is_valid(box->cache));
	unpin(&a);
	assert_int_equal(box_times(box, number(1)), 1);
	assert_int_equal(box->call[0].weight, 101);
	assert_int_equal(box->call[0].cause, SEG_CAUSE_EVICTED);
	assert_true(has(box->cache, 1));
	box_end(box);
	source_end(&s);
}

/* ---- the loader uses the cache ---- */

static int ask_for_own_key(struct source *s, uint64_t key)
{
	struct seg_pin pin;

	return get_from(s, key, &pin);
}

static int get_own_key(struct source *s, uint64_t key)
{
	struct seg_pin pin;

	return seg_cache_get(s->box->cache, key, &pin);
}

static int put_own_key(struct source *s, uint64_t key)
{
	return seg_cache_put(s->box->cache, key, number(99), 1, NULL);
}

static int take_own_key(struct source *s, uint64_t key)
{
	void *value;

	return seg_cache_take(s->box->cache, key, &value);
}

static int destroy_it(struct source *s, uint64_t key)
{
	(void)key;
	return seg_cache_destroy(s->box->cache);
}

static int use_others(struct source *s, uint64_t key)
{
	struct source inner;
	struct seg_pin pin;

	if (key == 100)
		return 0;
	source_init(&inner, s->box, 50 + key);
	inner.also = use_others;
	require(get_from(&inner, key + 1, &pin) == 0);
	unpin(&pin);
	put(s->box->cache, 200 + key, number(200 + key), 1);
	require(has(s->box->cache, 200 + key));
	source_end(&inner);
	return 0;
}

static void test_the_loader_asks_for_its_own_key(void **state)
{
	const struct {
		int (*also)(struct source *s, uint64_t key);
		int ret;
		bool stays;
	} tries[] = {
		{ ask_for_own_key, -EDEADLK, true },
		{ get_own_key, -ENOENT, true },
		{ put_own_key, -EEXIST, true },
		{ take_own_key, -ENOENT, false },
		{ destroy_it, -EBUSY, true },
	};

	(void)state;
	for (int i = 0; i < 5; i++) {
		struct box *box = box_begin(100);
		struct seg_pin pin;
		struct source s;

		source_init(&s, box, 1);
		s.also = tries[i].also;
		assert_int_equal(get_from(&s, 5, &pin), 0);
		assert_int_equal(s.also_ret, tries[i].ret);
		assert_ptr_equal(seg_pin_value(&pin), number(1));
		assert_int_equal(s.calls, 1);
		unpin(&pin);
		assert_int_equal(has(box->cache, 5), tries[i].stays);
		box_end(box);
		source_end(&s);
	}
}

/* Other keys, ten loads deep. */
static void test_the_loader_loads_other_keys(void **state)
{
	struct box *box = box_begin(10000);
	struct seg_pin pin;
	struct source s;

	(void)state;
	source_init(&s, box, 1);
	s.also = use_others;
	assert_int_equal(get_from(&s, 90, &pin), 0);
	unpin(&pin);
	assert_int_equal(cache_stats(box->cache).entries, 21);
	box_end(box);
	source_end(&s);
}

/* ---- removed, replaced, cleared while it loads ---- */

static int remove_own_key(struct source *s, uint64_t key)
{
	require(seg_cache_remove(s->box->cache, key, number(1)) == -ENOENT);
	return seg_cache_remove(s->box->cache, key, NULL);
}

static int replace_own_key(struct source *s, uint64_t key)
{
	return seg_cache_replace(s->box->cache, key, number(99), 5, NULL);
}

static int clear_all(struct source *s, uint64_t key)
{
	(void)key;
	return seg_cache_clear(s->box->cache);
}

/* What is loaded is not kept, but given to who asked, and leaves with it. */
static void test_the_key_goes_while_it_loads(void **state)
{
	const struct {
		int (*also)(struct source *s, uint64_t key);
		enum seg_cause cause;
		int error;
	} tries[] = {
		{ remove_own_key, SEG_CAUSE_REMOVED, 0 },
		{ replace_own_key, SEG_CAUSE_REPLACED, 0 },
		{ clear_all, SEG_CAUSE_CLEARED, 0 },
		{ take_own_key, SEG_CAUSE_REMOVED, 0 },
		{ remove_own_key, 0, -EIO },
		{ replace_own_key, 0, -EIO },
	};

	(void)state;
	for (int i = 0; i < 6; i++) {
		struct box *box = box_begin(100);
		struct seg_pin pin;
		struct source s;

		source_init(&s, box, 1);
		s.also = tries[i].also;
		s.error = tries[i].error;
		assert_int_equal(get_from(&s, 5, &pin), s.error);
		assert_int_equal(box->heard, 0);
		if (!s.error) {
			assert_ptr_equal(seg_pin_value(&pin), number(1));
			assert_true(seg_cache_is_valid(box->cache));
			unpin(&pin);
			assert_int_equal(box->heard, 1);
			assert_ptr_equal(box->call[0].value, number(1));
			assert_int_equal(box->call[0].cause, tries[i].cause);
		}
		assert_int_equal(has(box->cache, 5),
				 s.also == replace_own_key);
		box_end(box);
		source_end(&s);
	}
}

/* ---- others wait ---- */

struct asker {
	struct source *source;
	int wait_ms;
	int ret;
	void *value;
};

static void *ask(void *arg)
{
	struct asker *a = arg;
	struct seg_pin pin;

	a->ret = seg_cache_get_or_load(a->source->box->cache, 5, load,
				       a->source, a->wait_ms, &pin);
	if (a->ret)
		return NULL;
	a->value = seg_pin_value(&pin);
	return seg_unpin(&pin) ? arg : NULL;
}

struct crowd {
	struct box *box;
	struct source source;
	struct asker asker[1 + WAITERS];
	struct threads loader, waiters;
};

/* One loads, and stops inside; the others wait for it. */
static struct crowd *crowd_begin(void)
{
	struct crowd *c = calloc(1, sizeof(*c));

	require(c);
	c->box = box_begin(100);
	source_init(&c->source, c->box, 1);
	c->source.pauses = true;
	for (int i = 0; i <= WAITERS; i++)
		c->asker[i].source = &c->source;
	threads_start(&c->loader, 1, ask, c->asker, sizeof(*c->asker));
	wait_for(&c->source.inside);
	threads_start(&c->waiters, WAITERS, ask, c->asker + 1,
		      sizeof(*c->asker));
	wait_until(cache_stats(c->box->cache).load_waits_total == WAITERS);
	return c;
}

static void crowd_go_on(struct crowd *c)
{
	sem_post(&c->source.go_on);
	assert_int_equal(threads_join(&c->loader), 0);
	assert_int_equal(threads_join(&c->waiters), 0);
}

static void crowd_end(struct crowd *c)
{
	box_end(c->box);
	source_end(&c->source);
	free(c);
}

static void test_all_get_what_one_loads(void **state)
{
	struct crowd *c = crowd_begin();

	(void)state;
	assert_false(has(c->box->cache, 5));
	crowd_go_on(c);
	assert_int_equal(c->source.calls, 1);
	for (int i = 0; i <= WAITERS; i++) {
		assert_int_equal(c->asker[i].ret, 0);
		assert_ptr_equal(c->asker[i].value, number(1));
	}
	assert_int_equal(cache_stats(c->box->cache).weight, 10);
	assert_true(has(c->box->cache, 5));
	crowd_end(c);
}

static void test_all_get_the_error(void **state)
{
	struct crowd *c = crowd_begin();
	struct seg_pin pin;

	(void)state;
	c->source.error = -EIO;
	crowd_go_on(c);
	for (int i = 0; i <= WAITERS; i++)
		assert_int_equal(c->asker[i].ret, -EIO);
	assert_int_equal(c->source.calls, 1);
	assert_int_equal(cache_stats(c->box->cache).load_failures_total, 1);
	c->source.error = 0;
	c->source.pauses = false;
	assert_int_equal(get_from(&c->source, 5, &pin), 0);
	assert_int_equal(c->source.calls, 2);
	unpin(&pin);
	crowd_end(c);
}

/* They get it nevertheless; it leaves with the last of them, once. */
static void test_removed_while_they_wait(void **state)
{
	struct crowd *c = crowd_begin();

	(void)state;
	assert_int_equal(seg_cache_remove(c->box->cache, 5, NULL), 0);
	crowd_go_on(c);
	for (int i = 0; i <= WAITERS; i++)
		assert_ptr_equal(c->asker[i].value, number(1));
	assert_int_equal(c->box->heard, 1);
	assert_int_equal(c->box->call[0].cause, SEG_CAUSE_REMOVED);
	assert_int_equal(cache_stats(c->box->cache).entries, 0);
	crowd_end(c);
}

/* A put is refused, a replace is not, and who asks from then on gets it. */
static void test_replaced_while_they_wait(void **state)
{
	struct crowd *c = crowd_begin();
	struct seg_pin pin;

	(void)state;
	assert_int_equal(seg_cache_put(c->box->cache, 5, number(9), 1, NULL),
			 -EEXIST);
	assert_int_equal(seg_cache_replace(c->box->cache, 5, number(9), 1,
					   NULL), 0);
	pin = get(c->box->cache, 5);
	assert_ptr_equal(seg_pin_value(&pin), number(9));
	unpin(&pin);
	crowd_go_on(c);
	for (int i = 0; i <= WAITERS; i++)
		assert_ptr_equal(c->asker[i].value, number(1));
	assert_int_equal(box_times(c->box, number(1)), 1);
	assert_int_equal(box_times(c->box, number(9)), 0);
	crowd_end(c);
}

/* Once removed, the key is free: another load of it may begin. */
static void test_a_second_load_beside_a_removed_one(void **state)
{
	struct crowd *c = crowd_begin();
	struct seg_pin pin;
	struct source second;

	(void)state;
	source_init(&second, c->box, 2);
	assert_int_equal(seg_cache_remove(c->box->cache, 5, NULL), 0);
	assert_int_equal(get_from(&second, 5, &pin), 0);
	assert_ptr_equal(seg_pin_value(&pin), number(2));
	crowd_go_on(c);
	unpin(&pin);
	assert_int_equal(box_times(c->box, number(1)), 1);
	assert_int_equal(box_times(c->box, number(2)), 0);
	source_end(&second);
	crowd_end(c);
}

static void test_not_waiting_and_not_for_long(void **state)
{
	struct crowd *c = crowd_begin();
	struct seg_pin pin;

	(void)state;
	assert_int_equal(seg_cache_get_or_load(c->box->cache, 5, load,
					       &c->source, SEG_NO_WAIT, &pin),
			 -EAGAIN);
	assert_int_equal(seg_cache_get_or_load(c->box->cache, 5, load,
					       &c->source, 1, &pin),
			 -ETIMEDOUT);
	assert_int_equal(seg_cache_destroy(c->box->cache), -EBUSY);
	crowd_go_on(c);
	assert_int_equal(c->source.calls, 1);
	assert_int_equal(cache_stats(c->box->cache).load_waits_total,
			 WAITERS + 2);
	assert_int_equal(cache_stats(c->box->cache).pinned_weight, 0);
	crowd_end(c);
}

/* Who waits with a timeout that is long enough is served. */
static void test_a_timeout_that_does(void **state)
{
	struct crowd *c = crowd_begin();
	struct asker late = { .source = &c->source, .wait_ms = 60000 };
	struct threads threads;

	(void)state;
	threads_start(&threads, 1, ask, &late, 0);
	wait_until(cache_stats(c->box->cache).load_waits_total == WAITERS + 1);
	crowd_go_on(c);
	assert_int_equal(threads_join(&threads), 0);
	assert_int_equal(late.ret, 0);
	assert_ptr_equal(late.value, number(1));
	crowd_end(c);
}

/* Others' keys are not held up by a loader that hangs. */
static void test_other_keys_go_on(void **state)
{
	struct crowd *c = crowd_begin();

	(void)state;
	for (uint64_t i = 10; i < 200; i++)
		put(c->box->cache, i, number(i), 20);
	assert_true(has(c->box->cache, 199));
	assert_int_equal(seg_cache_shrink(c->box->cache, 0, NULL), 0);
	assert_true(seg_cache_is_valid(c->box->cache));
	crowd_go_on(c);
	crowd_end(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_loads_once),
		cmocka_unit_test(test_a_loader_that_fails),
		cmocka_unit_test(test_a_loader_that_brings_nothing_good),
		cmocka_unit_test(test_heavier_than_the_maximum),
		cmocka_unit_test(test_the_loader_asks_for_its_own_key),
		cmocka_unit_test(test_the_loader_loads_other_keys),
		cmocka_unit_test(test_the_key_goes_while_it_loads),
		cmocka_unit_test(test_all_get_what_one_loads),
		cmocka_unit_test(test_all_get_the_error),
		cmocka_unit_test(test_removed_while_they_wait),
		cmocka_unit_test(test_replaced_while_they_wait),
		cmocka_unit_test(test_a_second_load_beside_a_removed_one),
		cmocka_unit_test(test_not_waiting_and_not_for_long),
		cmocka_unit_test(test_a_timeout_that_does),
		cmocka_unit_test(test_other_keys_go_on),
	};

	return run_group(tests);
}
