/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_entry.h: each row of the table, what is refused, and (E1) one wins
 * who ends an entry, (E2) no pin on what ended, (E3) what was read under a pin
 * was read before.
 */
#include "testing.h"

#include "cache_entry.h"

enum { THREADS = 4, ROUNDS = 3000 };

static struct cache_entry entry;

static int new_entry(void **state)
{
	(void)state;
	memset(&entry, 0, sizeof(entry));
	return 0;
}

static uint64_t pin(void)
{
	uint64_t word = 0;

	assert_true(entry_pin(&entry, &word));
	assert_int_equal(word, entry_look(&entry));
	return entry_version(word);
}

static void assert_is(enum cache_state st, uint64_t pins, uint64_t flags)
{
	uint64_t word = entry_look(&entry);

	assert_int_equal(entry_state(word), st);
	assert_int_equal(entry_pins(word), pins);
	assert_int_equal(word & (ENTRY_LOADING | ENTRY_PARKED |
				 ENTRY_RETURNING), flags);
}

static void test_each_life_has_a_version(void **state)
{
	(void)state;
	assert_is(ENTRY_DEAD, 0, 0);
	for (uint64_t life = 1; life < 5; life++) {
		entry_begin(&entry, 0, life - 1);
		assert_is(ENTRY_LIVE, life - 1, 0);
		assert_int_equal(entry_version(entry_look(&entry)), life);
		for (uint64_t i = 1; i < life; i++)
			entry_unpin(&entry, life);
		assert_true(entry_kill(&entry) != 0);
		assert_is(ENTRY_DEAD, 0, 0);
		assert_int_equal(entry_version(entry_look(&entry)), life);
	}
}

static void test_pins_and_unpins(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(&entry, 0, 0);
	v = pin();
	pin();
	assert_is(ENTRY_LIVE, 2, 0);
	assert_int_equal(entry_unpin(&entry, v), UNPIN_STAYS);
	assert_int_equal(entry_unpin(&entry, v), UNPIN_LAST);
	assert_is(ENTRY_LIVE, 0, 0);
	assert_int_equal(entry_unpin(&entry, v), UNPIN_STALE);
	assert_is(ENTRY_LIVE, 0, 0);
}

static void test_plain_unpins(void **state)
{
	bool last = true;
	uint64_t v;

	(void)state;
	entry_begin(&entry, 0, 0);
	v = pin();
	pin();
	assert_true(entry_unpin_plain(&entry, v, &last));
	assert_false(last);
	assert_false(entry_unpin_plain(&entry, v + 1, &last));
	assert_true(entry_unpin_plain(&entry, v, &last));
	assert_true(last);
	assert_false(entry_unpin_plain(&entry, v, &last));
	pin();
	entry_park(&entry);
	assert_false(entry_unpin_plain(&entry, v, &last));
	entry_hide(&entry);
	assert_false(entry_unpin_plain(&entry, v, &last));
	assert_is(ENTRY_HIDDEN, 1, 0);
}

/* E2, and a pin of an earlier life is known. */
static void test_what_ended_is_not_pinned(void **state)
{
	uint64_t word, old;

	(void)state;
	assert_false(entry_pin(&entry, &word));
	entry_begin(&entry, 0, 0);
	old = pin();
	entry_hide(&entry);
	assert_false(entry_pin(&entry, &word));
	assert_int_equal(entry_unpin(&entry, old), UNPIN_DIED_RETURNS);
	assert_false(entry_pin(&entry, &word));
	entry_returned(&entry);
	entry_begin(&entry, 0, 1);
	assert_int_equal(entry_unpin(&entry, old), UNPIN_STALE);
	assert_is(ENTRY_LIVE, 1, 0);
}

static void test_a_pin_keeps_it_from_being_killed(void **state)
{
	uint64_t v, before;

	(void)state;
	entry_begin(&entry, 0, 0);
	v = pin();
	assert_int_equal(entry_kill(&entry), 0);
	assert_is(ENTRY_LIVE, 1, 0);
	entry_unpin(&entry, v);
	before = entry_look(&entry);
	assert_int_equal(entry_kill(&entry), before);
	assert_int_equal(entry_kill(&entry), 0);
	assert_is(ENTRY_DEAD, 0, 0);
}

static void test_what_is_hidden_dies_with_its_last_pin(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(&entry, 0, 0);
	v = pin();
	pin();
	assert_int_equal(entry_pins(entry_hide(&entry)), 2);
	assert_is(ENTRY_HIDDEN, 2, 0);
	assert_int_equal(entry_kill(&entry), 0);
	assert_int_equal(entry_unpin(&entry, v), UNPIN_STAYS);
	assert_int_equal(entry_unpin(&entry, v), UNPIN_DIED_RETURNS);
	assert_is(ENTRY_DEAD, 0, ENTRY_RETURNING);
	entry_returned(&entry);
	assert_is(ENTRY_DEAD, 0, 0);
}

static void test_hiding_what_is_not_pinned_kills_it(void **state)
{
	(void)state;
	entry_begin(&entry, 0, 0);
	assert_int_equal(entry_pins(entry_hide(&entry)), 0);
	assert_is(ENTRY_DEAD, 0, 0);
}

static void test_what_is_parked_returns_with_its_last_unpin(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(&entry, 0, 0);
	assert_false(entry_park(&entry));
	v = pin();
	assert_true(entry_park(&entry));
	assert_is(ENTRY_LIVE, 1, ENTRY_PARKED);
	pin();
	assert_int_equal(entry_unpin(&entry, v), UNPIN_STAYS);
	assert_int_equal(entry_unpin(&entry, v), UNPIN_RETURNS);
	assert_is(ENTRY_LIVE, 0, ENTRY_RETURNING);
	/* E4: pinned and unpinned again, it is on the list already. */
	pin();
	assert_int_equal(entry_unpin(&entry, v), UNPIN_LAST);
	assert_int_equal(entry_state(entry_returned(&entry)), ENTRY_LIVE);
	assert_is(ENTRY_LIVE, 0, 0);
}

/* E4: on the list once, whatever happened to it since. */
static void test_what_dies_on_the_list_is_not_put_there_again(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(&entry, 0, 0);
	v = pin();
	entry_park(&entry);
	assert_int_equal(entry_unpin(&entry, v), UNPIN_RETURNS);
	pin();
	assert_true(entry_hide(&entry) & ENTRY_RETURNING);
	assert_is(ENTRY_HIDDEN, 1, ENTRY_RETURNING);
	assert_int_equal(entry_unpin(&entry, v), UNPIN_DIED);
	assert_int_equal(entry_state(entry_returned(&entry)), ENTRY_DEAD);
}

/* Taken off the list while it is hidden, its last unpin puts it there again. */
static void test_what_is_hidden_while_the_list_is_drained(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(&entry, 0, 0);
	v = pin();
	entry_park(&entry);
	entry_unpin(&entry, v);
	pin();
	entry_hide(&entry);
	assert_int_equal(entry_state(entry_returned(&entry)), ENTRY_HIDDEN);
	assert_int_equal(entry_unpin(&entry, v), UNPIN_DIED_RETURNS);
}

static void test_parked_and_hidden_is_hidden(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(&entry, 0, 0);
	v = pin();
	entry_park(&entry);
	entry_hide(&entry);
	assert_is(ENTRY_HIDDEN, 1, 0);
	assert_int_equal(entry_unpin(&entry, v), UNPIN_DIED_RETURNS);
}

static void test_loading(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(&entry, ENTRY_LOADING, 1);
	assert_is(ENTRY_LIVE, 1, ENTRY_LOADING);
	v = pin();
	assert_is(ENTRY_LIVE, 2, ENTRY_LOADING);
	assert_int_equal(entry_unpin(&entry, v), UNPIN_STAYS);
	entry_hide(&entry);
	assert_is(ENTRY_HIDDEN, 1, ENTRY_LOADING);
	assert_int_equal(entry_pins(entry_loaded(&entry)), 1);
	assert_is(ENTRY_HIDDEN, 1, 0);
}

/* The count can't run over into the version. */
static void test_there_is_a_most_of_pins(void **state)
{
	uint64_t word;

	(void)state;
	entry_begin(&entry, 0, 0);
	u64_store_relaxed(&entry.word, entry_look(&entry) | ENTRY_PINS);
	assert_false(entry_pin(&entry, &word));
	assert_int_equal(entry_version(entry_look(&entry)), 1);
	assert_int_equal(entry_unpin(&entry, 1), UNPIN_STAYS);
	assert_true(entry_pin(&entry, &word));
}

/* ---- threads ---- */

/*
 * Each pins, looks at a plain figure, and unpins; one of them kills it in
 * between and changes the figure.  TSan sees that E3 orders the two.
 */
struct racer {
	pthread_barrier_t *start;
	uint64_t *plain;
	bool kills;
	uint64_t pinned, killed, seen_late;
};

static void *race(void *arg)
{
	struct racer *r = arg;

	for (uint64_t round = 1; round <= ROUNDS; round++) {
		uint64_t word;

		pthread_barrier_wait(r->start);
		if (r->kills && entry_kill(&entry)) {
			r->killed++;
			*r->plain = 0;
		} else if (!r->kills && entry_pin(&entry, &word)) {
			r->pinned++;
			r->seen_late += *r->plain != round;
			entry_unpin(&entry, entry_version(word));
		}
		pthread_barrier_wait(r->start);
		/* The killer, alone, makes the next one. */
		if (r->kills) {
			entry_kill(&entry);
			*r->plain = round + 1;
			entry_begin(&entry, 0, 0);
		}
	}
	return r->seen_late ? arg : NULL;
}

static void test_pin_against_kill(void **state)
{
	struct racer r[THREADS];
	struct threads threads;
	pthread_barrier_t start;
	uint64_t plain = 1;

	(void)state;
	pthread_barrier_init(&start, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		r[i] = (struct racer){ &start, &plain, i == 0, 0, 0, 0 };
	entry_begin(&entry, 0, 0);
	threads_start(&threads, THREADS, race, r, sizeof(*r));
	assert_int_equal(threads_join(&threads), 0);
	assert_is(ENTRY_LIVE, 0, 0);
	assert_int_equal(entry_version(entry_look(&entry)), ROUNDS + 1);
	pthread_barrier_destroy(&start);
}

/* All hold a pin on a hidden entry: the last one, and only it, ends it. */
struct unpinner {
	pthread_barrier_t *start;
	uint64_t died;
	uint64_t *plain;
};

static void *unpin_hidden(void *arg)
{
	struct unpinner *u = arg;

	for (uint64_t round = 1; round <= ROUNDS; round++) {
		pthread_barrier_wait(u->start);
		if (entry_unpin(&entry, round) == UNPIN_DIED_RETURNS) {
			u->died++;
			(*u->plain)++;
		}
		if (pthread_barrier_wait(u->start) ==
		    PTHREAD_BARRIER_SERIAL_THREAD) {
			entry_returned(&entry);
			entry_begin(&entry, 0, THREADS);
			entry_hide(&entry);
		}
	}
	return NULL;
}

static void test_one_of_the_last_unpins_ends_it(void **state)
{
	struct unpinner u[THREADS];
	struct threads threads;
	pthread_barrier_t start;
	uint64_t plain = 0, died = 0;

	(void)state;
	pthread_barrier_init(&start, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		u[i] = (struct unpinner){ &start, 0, &plain };
	entry_begin(&entry, 0, THREADS);
	entry_hide(&entry);
	threads_start(&threads, THREADS, unpin_hidden, u, sizeof(*u));
	assert_int_equal(threads_join(&threads), 0);
	for (int i = 0; i < THREADS; i++)
		died += u[i].died;
	assert_int_equal(died, ROUNDS);
	assert_int_equal(plain, ROUNDS);
	pthread_barrier_destroy(&start);
}

#define entry_test(f) cmocka_unit_test_setup(f, new_entry)

int main(void)
{
	const struct CMUnitTest tests[] = {
		entry_test(test_each_life_has_a_version),
		entry_test(test_pins_and_unpins),
		entry_test(test_plain_unpins),
		entry_test(test_what_ended_is_not_pinned),
		entry_test(test_a_pin_keeps_it_from_being_killed),
		entry_test(test_what_is_hidden_dies_with_its_last_pin),
		entry_test(test_hiding_what_is_not_pinned_kills_it),
		entry_test(test_what_is_parked_returns_with_its_last_unpin),
		entry_test(test_what_dies_on_the_list_is_not_put_there_again),
		entry_test(test_what_is_hidden_while_the_list_is_drained),
		entry_test(test_parked_and_hidden_is_hidden),
		entry_test(test_loading),
		entry_test(test_there_is_a_most_of_pins),
		entry_test(test_pin_against_kill),
		entry_test(test_one_of_the_last_unpins_ends_it),
	};

	return run_group(tests);
}
