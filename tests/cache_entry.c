/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_entry.h: each row of the table, what is refused, and (E1) one wins
 * who ends an entry, (E2) no pin on what ended, (E3) what was read under a pin
 * was read before, (E5) what was read with a word is pinned with that word, or
 * not at all.
 */
#include "groups.h"

#include "cache_index.h"

enum { THREADS = 4, ROUNDS = 3000, LOOKS = 64, WEIGHT = 30 };

static struct cache_entry *entry;
static struct cache_record *record;
static struct departed departed;	/* by the last unpin */

static int new_entry(void **state)
{
	(void)state;
	groups_map();
	entry = nth_entry(0);
	record = nth_record(0);
	return 0;
}

static int end_entry(void **state)
{
	(void)state;
	groups_unmap();
	return 0;
}

static void *value_of(uint64_t key)
{
	return (void *)(uintptr_t)(16 * (key + 1));
}

/* The entry is dead: another key's from now on. */
static void begin(uint64_t key)
{
	entry_fill(entry, key, value_of(key), WEIGHT);
	entry_begin(entry, 0, 0);
}

static enum entry_unpinned unpin(uint64_t version)
{
	departed = (struct departed){ .key = 0 };
	return entry_unpin(entry, version, &departed);
}

static void assert_departed(uint64_t key, uint32_t cause)
{
	assert_int_equal(departed.key, key);
	assert_ptr_equal(departed.value, value_of(key));
	assert_int_equal(departed.weight, WEIGHT);
	assert_int_equal(departed.cause, cause);
}

/* It is not open. */
static uint64_t hide(void)
{
	uint64_t before;

	assert_true(entry_hide(entry, &before));
	return before;
}

static uint64_t pin(void)
{
	uint64_t word = entry_look(entry);

	assert_true(entry_pin(entry, &word));
	assert_int_equal(word, entry_look(entry));
	return entry_version(word);
}

static void assert_is(enum cache_state st, uint64_t pins, uint64_t flags)
{
	uint64_t word = entry_look(entry);

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
		entry_begin(entry, 0, life - 1);
		assert_is(ENTRY_LIVE, life - 1, 0);
		assert_int_equal(entry_version(entry_look(entry)), life);
		for (uint64_t i = 1; i < life; i++)
			unpin(life);
		assert_true(entry_kill(entry) != 0);
		assert_is(ENTRY_DEAD, 0, 0);
		assert_int_equal(entry_version(entry_look(entry)), life);
	}
}

static void test_pins_and_unpins(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(entry, 0, 0);
	v = pin();
	pin();
	assert_is(ENTRY_LIVE, 2, 0);
	assert_int_equal(unpin(v), UNPIN_STAYS);
	assert_int_equal(unpin(v), UNPIN_LAST);
	assert_is(ENTRY_LIVE, 0, 0);
	assert_int_equal(unpin(v), UNPIN_STALE);
	assert_is(ENTRY_LIVE, 0, 0);
}

static void test_plain_unpins(void **state)
{
	bool last = true;
	uint64_t v;

	(void)state;
	entry_begin(entry, 0, 0);
	v = pin();
	pin();
	assert_true(entry_unpin_plain(entry, v, &last));
	assert_false(last);
	assert_false(entry_unpin_plain(entry, v + 1, &last));
	assert_true(entry_unpin_plain(entry, v, &last));
	assert_true(last);
	assert_false(entry_unpin_plain(entry, v, &last));
	pin();
	entry_park(entry);
	assert_false(entry_unpin_plain(entry, v, &last));
	hide();
	assert_false(entry_unpin_plain(entry, v, &last));
	assert_is(ENTRY_HIDDEN, 1, 0);
}

/* Who looked at it when its word was this one. */
static bool pins_with(uint64_t word)
{
	uint64_t before = entry_look(entry);
	bool pinned = entry_pin(entry, &word);

	assert_int_equal(entry_look(entry),
			 before + (pinned ? ENTRY_PIN : 0));
	return pinned;
}

/* E2, and a pin of an earlier life is known. */
static void test_what_ended_is_not_pinned(void **state)
{
	uint64_t live, old;

	(void)state;
	assert_false(pins_with(entry_look(entry)));
	entry_begin(entry, 0, 0);
	live = entry_look(entry);
	old = pin();
	hide();
	assert_false(pins_with(live));
	assert_false(pins_with(entry_look(entry)));
	assert_int_equal(unpin(old), UNPIN_DIED_RETURNS);
	assert_false(pins_with(live));
	assert_false(pins_with(entry_look(entry)));
	entry_returned(entry);
	entry_begin(entry, 0, 1);
	assert_int_equal(unpin(old), UNPIN_STALE);
	assert_is(ENTRY_LIVE, 1, 0);
}

/* E5: a look-up was stopped after each of its steps, and goes on when the entry
 * is another key's. */
static void test_no_pin_of_what_was_used_again(void **state)
{
	uint64_t live, dead;

	(void)state;
	begin(1);
	live = entry_look(entry);
	assert_ptr_equal(cache_index_value(entry, live), value_of(1));
	entry_kill(entry);
	dead = entry_look(entry);
	assert_null(cache_index_value(entry, live));
	/* The new key and value are there, the word still says dead. */
	entry_fill(entry, 2, value_of(2), WEIGHT);
	assert_null(cache_index_value(entry, live));
	assert_null(cache_index_value(entry, dead));
	assert_false(pins_with(live));
	assert_false(pins_with(dead));
	entry_begin(entry, 0, 0);
	assert_null(cache_index_value(entry, live));
	assert_null(cache_index_value(entry, dead));
	assert_false(pins_with(live));
	assert_false(pins_with(dead));
	assert_ptr_equal(cache_index_value(entry, entry_look(entry)),
			 value_of(2));
	assert_true(pins_with(entry_look(entry)));
}

/* The quick forms do nothing that the others would not, and give up early. */
static void test_a_first_pin_of_what_rests(void **state)
{
	uint64_t word;

	(void)state;
	begin(1);
	word = entry_look(entry);
	assert_true(entry_pin_alone(entry, word));
	assert_is(ENTRY_LIVE, 1, 0);
	assert_false(entry_pin_alone(entry, word));
	assert_false(entry_pin_alone(entry, entry_look(entry)));
	assert_int_equal(unpin(entry_version(word)), UNPIN_LAST);
	assert_true(entry_pin_alone(entry, word));
	assert_int_equal(unpin(entry_version(word)), UNPIN_LAST);
	entry_kill(entry);
	assert_false(entry_pin_alone(entry, word));
	assert_false(entry_pin_alone(entry, entry_look(entry)));
	entry_fill(entry, 1, NULL, 0);
	entry_begin(entry, ENTRY_LOADING, 0);
	assert_false(entry_pin_alone(entry, word));
	assert_false(entry_pin_alone(entry, entry_look(entry)));
	assert_is(ENTRY_LIVE, 0, ENTRY_LOADING);
}

static void test_a_first_look_at_a_value(void **state)
{
	uint64_t live, pinned, dead;

	(void)state;
	begin(1);
	live = entry_look(entry);
	assert_ptr_equal(cache_index_value_first(entry, live), value_of(1));
	pin();
	pinned = entry_look(entry);
	assert_null(cache_index_value_first(entry, live));
	assert_ptr_equal(cache_index_value_first(entry, pinned), value_of(1));
	hide();
	assert_null(cache_index_value_first(entry, pinned));
	assert_null(cache_index_value_first(entry, entry_look(entry)));
	unpin(entry_version(live));
	dead = entry_look(entry);
	assert_null(cache_index_value_first(entry, dead));
	entry_returned(entry);
	dead = entry_look(entry);
	assert_null(cache_index_value_first(entry, dead));
	entry_fill(entry, 2, value_of(2), WEIGHT);
	entry_begin(entry, 0, 0);
	assert_null(cache_index_value_first(entry, live));
	assert_null(cache_index_value_first(entry, dead));
	assert_ptr_equal(cache_index_value_first(entry, entry_look(entry)),
			 value_of(2));
}

/* What else happens to a word is no reason to look again. */
static void test_other_pins_do_not_disturb_a_look(void **state)
{
	uint64_t word, v;

	(void)state;
	begin(1);
	word = entry_look(entry);
	v = pin();
	entry_park(entry);
	assert_ptr_equal(cache_index_value(entry, word), value_of(1));
	assert_true(pins_with(word));
	assert_int_equal(unpin(v), UNPIN_STAYS);
	assert_int_equal(unpin(v), UNPIN_RETURNS);
	assert_ptr_equal(cache_index_value(entry, word), value_of(1));
	assert_true(pins_with(word));
}

/* A value that came after the word was read is the same entry's. */
static void test_a_look_at_what_is_loaded_meanwhile(void **state)
{
	uint64_t word;

	(void)state;
	entry_fill(entry, 1, NULL, 0);
	entry_begin(entry, ENTRY_LOADING, 1);
	word = entry_look(entry);
	assert_null(cache_index_value(entry, word));
	ptr_store_release(&entry->value, value_of(1));
	entry_loaded(entry);
	assert_ptr_equal(cache_index_value(entry, word), value_of(1));
	hide();
	assert_null(cache_index_value(entry, word));
}

/* The last unpin knows what left, though the entry is another's at once. */
static void test_what_departs(void **state)
{
	uint64_t v;

	(void)state;
	begin(1);
	v = pin();
	record_set_cause(record, 7);
	assert_int_equal(unpin(v), UNPIN_LAST);
	assert_departed(1, 0);
	pin();
	pin();
	hide();
	assert_int_equal(unpin(v), UNPIN_STAYS);
	assert_null(departed.value);
	assert_int_equal(unpin(v), UNPIN_DIED_RETURNS);
	entry_returned(entry);
	begin(2);
	assert_departed(1, 7);
	departed = entry_departs(entry, 5);
	assert_departed(2, 5);
}

/* Marks of hits are of the value before. */
static void test_a_new_life_has_no_mark(void **state)
{
	(void)state;
	begin(1);
	u16_store_relaxed(&entry->mark, 3);
	u32_store_relaxed(&record->loading, 1);
	entry_kill(entry);
	begin(2);
	assert_int_equal(u16_load_relaxed(&entry->mark), 0);
	assert_int_equal(u32_load_relaxed(&record->loading), 0);
	assert_int_equal(entry_key(entry), 2);
	assert_int_equal(entry_weight(entry), WEIGHT);
}

static void test_a_pin_keeps_it_from_being_killed(void **state)
{
	uint64_t v, before;

	(void)state;
	entry_begin(entry, 0, 0);
	v = pin();
	assert_int_equal(entry_kill(entry), 0);
	assert_is(ENTRY_LIVE, 1, 0);
	unpin(v);
	before = entry_look(entry);
	assert_int_equal(entry_kill(entry), before);
	assert_int_equal(entry_kill(entry), 0);
	assert_is(ENTRY_DEAD, 0, 0);
}

static void test_what_is_hidden_dies_with_its_last_pin(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(entry, 0, 0);
	v = pin();
	pin();
	assert_int_equal(entry_pins(hide()), 2);
	assert_is(ENTRY_HIDDEN, 2, 0);
	assert_int_equal(entry_kill(entry), 0);
	assert_int_equal(unpin(v), UNPIN_STAYS);
	assert_int_equal(unpin(v), UNPIN_DIED_RETURNS);
	assert_is(ENTRY_DEAD, 0, ENTRY_RETURNING);
	entry_returned(entry);
	assert_is(ENTRY_DEAD, 0, 0);
}

static void test_hiding_what_is_not_pinned_kills_it(void **state)
{
	(void)state;
	entry_begin(entry, 0, 0);
	assert_int_equal(entry_pins(hide()), 0);
	assert_is(ENTRY_DEAD, 0, 0);
}

static void test_what_is_parked_returns_with_its_last_unpin(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(entry, 0, 0);
	assert_false(entry_park(entry));
	v = pin();
	assert_true(entry_park(entry));
	assert_is(ENTRY_LIVE, 1, ENTRY_PARKED);
	pin();
	assert_int_equal(unpin(v), UNPIN_STAYS);
	assert_int_equal(unpin(v), UNPIN_RETURNS);
	assert_is(ENTRY_LIVE, 0, ENTRY_RETURNING);
	/* E4: pinned and unpinned again, it is on the list already. */
	pin();
	assert_int_equal(unpin(v), UNPIN_LAST);
	assert_int_equal(entry_state(entry_returned(entry)), ENTRY_LIVE);
	assert_is(ENTRY_LIVE, 0, 0);
}

/* E4: on the list once, whatever happened to it since. */
static void test_what_dies_on_the_list_is_not_put_there_again(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(entry, 0, 0);
	v = pin();
	entry_park(entry);
	assert_int_equal(unpin(v), UNPIN_RETURNS);
	pin();
	assert_true(hide() & ENTRY_RETURNING);
	assert_is(ENTRY_HIDDEN, 1, ENTRY_RETURNING);
	assert_int_equal(unpin(v), UNPIN_DIED);
	assert_int_equal(entry_state(entry_returned(entry)), ENTRY_DEAD);
}

/* Taken off the list while it is hidden, its last unpin puts it there again. */
static void test_what_is_hidden_while_the_list_is_drained(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(entry, 0, 0);
	v = pin();
	entry_park(entry);
	unpin(v);
	pin();
	hide();
	assert_int_equal(entry_state(entry_returned(entry)), ENTRY_HIDDEN);
	assert_int_equal(unpin(v), UNPIN_DIED_RETURNS);
}

static void test_parked_and_hidden_is_hidden(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(entry, 0, 0);
	v = pin();
	entry_park(entry);
	hide();
	assert_is(ENTRY_HIDDEN, 1, 0);
	assert_int_equal(unpin(v), UNPIN_DIED_RETURNS);
}

static void test_loading(void **state)
{
	uint64_t v;

	(void)state;
	entry_begin(entry, ENTRY_LOADING, 1);
	assert_is(ENTRY_LIVE, 1, ENTRY_LOADING);
	v = pin();
	assert_is(ENTRY_LIVE, 2, ENTRY_LOADING);
	assert_int_equal(unpin(v), UNPIN_STAYS);
	hide();
	assert_is(ENTRY_HIDDEN, 1, ENTRY_LOADING);
	assert_int_equal(entry_pins(entry_loaded(entry)), 1);
	assert_is(ENTRY_HIDDEN, 1, 0);
}

/* The count can't run over into the version. */
static void test_there_is_a_most_of_pins(void **state)
{
	(void)state;
	entry_begin(entry, 0, 0);
	u64_store_relaxed(&entry->word, entry_look(entry) | ENTRY_FULL);
	assert_false(pins_with(entry_look(entry)));
	assert_int_equal(entry_version(entry_look(entry)), 1);
	assert_int_equal(unpin(1), UNPIN_STAYS);
	assert_true(pins_with(entry_look(entry)));
}

/* ---- open ones (E7) ---- */

/* Opens it, as who pins it does. */
static uint64_t open_it(void)
{
	do
		assert_false(entry_look(entry) & ENTRY_OPEN);
	while (!entry_open(entry, entry_look(entry)));
	return entry_look(entry);
}

static void test_an_open_one_does_not_end(void **state)
{
	uint64_t v, word, before;

	(void)state;
	begin(1);
	v = pin();
	word = open_it();
	assert_false(entry_open(entry, word));
	assert_false(entry_hide(entry, &before));
	assert_int_equal(unpin(v), UNPIN_LAST);
	assert_int_equal(entry_kill(entry), 0);
	assert_false(entry_hide(entry, &before));
	assert_is(ENTRY_LIVE, 0, 0);
	/* Closed, with a pin that stood elsewhere. */
	assert_true(entry_close(entry));
	assert_false(entry_close(entry));
	word = entry_move_in(entry);
	assert_int_equal(word, entry_look(entry));
	assert_is(ENTRY_LIVE, 1, 0);
	assert_int_equal(entry_kill(entry), 0);
	assert_int_equal(unpin(v), UNPIN_LAST);
	assert_true(entry_kill(entry) != 0);
}

/* What a pin in a slot depends on. */
static void test_open_all_the_time(void **state)
{
	uint64_t v, word;

	(void)state;
	begin(1);
	v = pin();
	word = open_it();
	pin();
	assert_true(entry_stays_open(word, entry_look(entry)));
	assert_true(entry_close(entry));
	assert_false(entry_stays_open(word, entry_look(entry)));
	assert_false(entry_open(entry, entry_look(entry)));
	entry_unshut(entry);
	open_it();
	assert_true(entry_stays_open(word, entry_look(entry)));
	assert_true(entry_close(entry));
	unpin(v);
	unpin(v);
	assert_true(entry_kill(entry) != 0);
	assert_false(entry_stays_open(word, entry_look(entry)));
	begin(2);
	pin();
	assert_false(entry_stays_open(word, entry_look(entry)));
	open_it();
	assert_false(entry_stays_open(word, entry_look(entry)));
}

/* ---- threads ---- */

/*
 * Each looks, pins what it saw and unpins; one of them kills it meanwhile and
 * uses it again at once.  TSan sees by a plain figure that E3 orders the two.
 */
struct racer {
	struct atomic_u32 *done;
	uint64_t *plain;
	struct atomic_u64 pinned;
	uint64_t wrong;
};

static void look_and_pin(struct racer *r)
{
	struct departed d;
	uint64_t word = entry_look(entry);
	uint64_t key = u64_load_acquire(&entry->key);
	void *value = cache_index_value(entry, word);

	r->wrong += value && value != value_of(key);
	if (!entry_pin(entry, &word))
		return;
	r->wrong += entry_key(entry) != key || *r->plain != key ||
		    ptr_load_relaxed(&entry->value) != value_of(key);
	entry_unpin(entry, entry_version(word), &d);
	u64_add_relaxed(&r->pinned, 1);
}

/* Under memcheck, threads have slices of one length: those of one could end in
 * the same place again and again, with the pin, or while the entry is no more.
 * So most end by a yield, where the others can go on: here, and below. */
static void *look_and_pin_on(void *arg)
{
	struct racer *r = arg;

	for (unsigned looks = 1; !u32_load_acquire(r->done); looks++) {
		look_and_pin(r);
		if (looks % LOOKS == 0)
			sched_yield();
	}
	return r->wrong ? arg : NULL;
}

static void use_again(uint64_t *plain, uint64_t key)
{
	while (!entry_kill(entry))
		sched_yield();
	*plain = key;
	begin(key);
}

static void test_pin_against_use_again(void **state)
{
	struct racer r[THREADS];
	struct atomic_u32 done = { 0 };
	struct threads threads;
	uint64_t plain = 0, key = 0;

	(void)state;
	begin(0);
	for (int i = 0; i < THREADS; i++)
		r[i] = (struct racer){ .done = &done, .plain = &plain };
	threads_start(&threads, THREADS, look_and_pin_on, r, sizeof(*r));
	for (int i = 0; i < THREADS; i++)
		while (!u64_load_relaxed(&r[i].pinned)) {
			use_again(&plain, ++key);
			sched_yield();
		}
	for (int round = 0; round < ROUNDS; round++)
		use_again(&plain, ++key);
	u32_store_release(&done, 1);
	assert_int_equal(threads_join(&threads), 0);
	assert_is(ENTRY_LIVE, 0, 0);
	assert_int_equal(entry_version(entry_look(entry)), key + 1);
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
	struct departed d;

	for (uint64_t round = 1; round <= ROUNDS; round++) {
		pthread_barrier_wait(u->start);
		if (entry_unpin(entry, round, &d) == UNPIN_DIED_RETURNS) {
			u->died++;
			(*u->plain)++;
		}
		if (pthread_barrier_wait(u->start) ==
		    PTHREAD_BARRIER_SERIAL_THREAD) {
			entry_returned(entry);
			entry_begin(entry, 0, THREADS);
			hide();
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
	entry_begin(entry, 0, THREADS);
	hide();
	threads_start(&threads, THREADS, unpin_hidden, u, sizeof(*u));
	assert_int_equal(threads_join(&threads), 0);
	for (int i = 0; i < THREADS; i++)
		died += u[i].died;
	assert_int_equal(died, ROUNDS);
	assert_int_equal(plain, ROUNDS);
	pthread_barrier_destroy(&start);
}

#define entry_test(f) cmocka_unit_test_setup_teardown(f, new_entry, end_entry)

int main(void)
{
	const struct CMUnitTest tests[] = {
		entry_test(test_each_life_has_a_version),
		entry_test(test_pins_and_unpins),
		entry_test(test_plain_unpins),
		entry_test(test_what_ended_is_not_pinned),
		entry_test(test_no_pin_of_what_was_used_again),
		entry_test(test_a_first_pin_of_what_rests),
		entry_test(test_a_first_look_at_a_value),
		entry_test(test_other_pins_do_not_disturb_a_look),
		entry_test(test_a_look_at_what_is_loaded_meanwhile),
		entry_test(test_what_departs),
		entry_test(test_a_new_life_has_no_mark),
		entry_test(test_a_pin_keeps_it_from_being_killed),
		entry_test(test_what_is_hidden_dies_with_its_last_pin),
		entry_test(test_hiding_what_is_not_pinned_kills_it),
		entry_test(test_what_is_parked_returns_with_its_last_unpin),
		entry_test(test_what_dies_on_the_list_is_not_put_there_again),
		entry_test(test_what_is_hidden_while_the_list_is_drained),
		entry_test(test_parked_and_hidden_is_hidden),
		entry_test(test_loading),
		entry_test(test_there_is_a_most_of_pins),
		entry_test(test_an_open_one_does_not_end),
		entry_test(test_open_all_the_time),
		entry_test(test_pin_against_use_again),
		entry_test(test_one_of_the_last_unpins_ends_it),
	};

	return run_group(tests);
}
