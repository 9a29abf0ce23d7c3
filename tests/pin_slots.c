/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/pin_slots.h: which entries open, where pins of these stand, who gives
 * them back, and what is said of them.  How such entries leave the cache is in
 * tests/cache_close.c.
 */
#include "slot_pins.h"

enum { THREADS = COUNTER_OWNERS + 4 };

/* No test leaves a slot in use. */
static int end(void **state)
{
	(void)state;
	assert_int_equal(slots_in_use(), 0);
	return 0;
}

/* ---- where pins stand ---- */

static void test_an_entry_opens_after_hits(void **state)
{
	struct box *box = box_begin(100);
	struct cache_entry *e;
	struct seg_pin pin;
	uint64_t word;

	(void)state;
	(void)counter_slot();
	put(box->cache, 1, number(1), 70);
	e = entry_of(box->cache, 1);
	for (int i = 1; i < CACHE_MARK_MOST; i++) {
		pin = get(box->cache, 1);
		assert_int_equal(cache_pin_slot(&pin), 0);
		assert_int_equal(word_pins(e), 1);
		unpin(&pin);
		assert_false(is_open(e));
	}
	make_open(box->cache, 1);
	assert_int_equal(word_pins(e), 0);
	word = entry_look(e);
	pin = get(box->cache, 1);
	assert_ptr_equal(seg_pin_value(&pin), number(1));
	assert_int_not_equal(cache_pin_slot(&pin), 0);
	assert_true(pin_slot_has(cache_pin_slot(&pin), e,
				 cache_pin_version(&pin)));
	assert_int_equal(cache_slot_pins(e), 1);
	assert_int_equal(entry_look(e), word);
	assert_weights(box, 0, 70);
	unpin(&pin);
	assert_int_equal(entry_look(e), word);
	assert_int_equal(cache_slot_pins(e), 0);
	assert_weights(box, 70, 0);
	box_end(box);
}

/* A hit counts as one, wherever its pin stands. */
static void test_hits_are_counted(void **state)
{
	struct box *box = box_begin(100);
	uint64_t before;

	(void)state;
	put_open(box->cache, 1, 70);
	before = cache_stats(box->cache).hits_total;
	for (int i = 0; i < 10; i++) {
		struct seg_pin pin = get_in_slot(box->cache, 1);

		unpin(&pin);
	}
	assert_int_equal(cache_stats(box->cache).hits_total, before + 10);
	assert_int_equal(cache_stats(box->cache).misses_total, 0);
	box_end(box);
}

static void test_more_pins_than_slots(void **state)
{
	enum { MORE = 3, PINS = PIN_SLOTS + MORE };
	struct box *box = box_begin(100);
	struct cache_entry *e = put_open(box->cache, 1, 70);
	struct seg_pin pin[PINS];

	(void)state;
	for (int i = 0; i < PINS; i++) {
		pin[i] = get(box->cache, 1);
		assert_int_equal(cache_pin_slot(&pin[i]) != 0, i < PIN_SLOTS);
		for (int j = 0; j < i && i < PIN_SLOTS; j++)
			assert_int_not_equal(cache_pin_slot(&pin[i]),
					     cache_pin_slot(&pin[j]));
	}
	assert_int_equal(cache_slot_pins(e), PIN_SLOTS);
	assert_int_equal(word_pins(e), MORE);
	assert_weights(box, 0, 70);
	/* One in the middle is free again, and found. */
	unpin(&pin[PIN_SLOTS / 2]);
	pin[PIN_SLOTS / 2] = get_in_slot(box->cache, 1);
	for (int i = PINS - 1; i >= 0; i--) {
		assert_weights(box, 0, 70);
		unpin(&pin[i]);
	}
	assert_int_equal(cache_slot_pins(e) + word_pins(e), 0);
	assert_weights(box, 70, 0);
	box_end(box);
}

/* Who closes it has it pinned in the word; the next hit opens it again. */
static void test_a_closed_one_opens_again(void **state)
{
	struct box *box = box_begin(100);
	struct cache_entry *e = put_open(box->cache, 1, 70);
	struct seg_pin pin = get_in_slot(box->cache, 1);

	(void)state;
	assert_true(seg_cache_is_valid(box->cache));
	assert_false(is_open(e));
	assert_int_equal(cache_slot_pins(e), 0);
	assert_int_equal(word_pins(e), 1);
	assert_weights(box, 0, 70);
	make_open(box->cache, 1);
	assert_int_equal(word_pins(e), 1);
	unpin(&pin);
	assert_int_equal(word_pins(e), 0);
	pin = get_in_slot(box->cache, 1);
	assert_int_equal(word_pins(e), 0);
	unpin(&pin);
	box_end(box);
}

/* Pages that move are moved by who has their only pin, by the word. */
static void test_none_opens_where_pages_move(void **state)
{
	struct seg_budget *budget = new_budget(16 * MIB);
	struct seg_pool *pool = make_pool(budget);
	struct box *box = box_begin_with((struct seg_cache_options){
		.max_weight = MIB, .pages = pool, .migrate_after = 1000 });
	const size_t bytes = SEG_MIN_BYTES;
	struct seg_page *page;

	(void)state;
	assert_int_equal(seg_page_create(pool, &bytes, 1, &page), 0);
	put(box->cache, 1, page, 0);
	for (int i = 0; i < HITS_MOST; i++) {
		struct seg_pin pin = get(box->cache, 1);

		assert_int_equal(cache_pin_slot(&pin), 0);
		unpin(&pin);
		assert_false(is_open(entry_of(box->cache, 1)));
	}
	box_end(box);
	end_both(pool, budget);
}

/* ---- who pins, and who unpins ---- */

struct share {
	struct seg_cache *cache;
	struct seg_pin pin;
	int ret;
};

static void share_get(void *share)
{
	struct share *s = share;

	s->pin = get_in_slot(s->cache, 1);
}

static void share_unpin(void *share)
{
	struct share *s = share;

	s->ret = seg_unpin(&s->pin);
}

static void test_another_thread_unpins(void **state)
{
	struct box *box = box_begin(100);
	struct share s = { .cache = box->cache };
	struct actor other;

	(void)state;
	put_open(box->cache, 1, 70);
	s.pin = get_in_slot(box->cache, 1);
	actor_begin(&other);
	actor_do(&other, share_unpin, &s);
	assert_int_equal(s.ret, 0);
	assert_int_equal(slots_in_use(), 0);
	assert_weights(box, 70, 0);
	actor_do(&other, share_get, &s);
	assert_weights(box, 0, 70);
	unpin(&s.pin);
	assert_int_equal(slots_in_use(), 0);
	actor_end(&other);
	box_end(box);
}

/* ... which has its number, and pins in other slots of that. */
static void test_the_thread_has_ended(void **state)
{
	struct box *box = box_begin(100);
	struct share s[2] = { { .cache = box->cache },
			      { .cache = box->cache } };
	struct cache_entry *e = put_open(box->cache, 1, 70);
	struct actor actor;

	(void)state;
	for (int i = 0; i < 2; i++) {
		actor_begin(&actor);
		actor_do(&actor, share_get, &s[i]);
		actor_end(&actor);
	}
	/* The number, then the slot. */
	assert_int_equal(cache_pin_slot(&s[0].pin) / COUNTER_PLACE_BYTES,
			 cache_pin_slot(&s[1].pin) / COUNTER_PLACE_BYTES);
	assert_int_not_equal(cache_pin_slot(&s[0].pin),
			     cache_pin_slot(&s[1].pin));
	assert_int_equal(cache_slot_pins(e), 2);
	assert_weights(box, 0, 70);
	unpin(&s[0].pin);
	assert_weights(box, 0, 70);
	assert_int_equal(seg_cache_shrink(box->cache, 0, NULL), 0);
	assert_int_equal(box_heard(box), 0);
	unpin(&s[1].pin);
	assert_weights(box, 70, 0);
	box_end(box);
}

static pthread_barrier_t all_pin, all_unpin;

static void *pin_and_wait(void *share)
{
	struct share *s = share;

	require(has(s->cache, 1));	/* its number, if it gets one */
	s->pin = get(s->cache, 1);
	pthread_barrier_wait(&all_pin);
	pthread_barrier_wait(&all_unpin);
	share_unpin(s);
	return s->ret ? s : NULL;
}

/* Threads that share a number have no slots. */
static void test_threads_without_a_number(void **state)
{
	struct box *box = box_begin(100);
	struct cache_entry *e = put_open(box->cache, 1, 70);
	struct share shares[THREADS];
	struct threads threads;
	unsigned in_slots = 0;

	(void)state;
	for (int i = 0; i < THREADS; i++)
		shares[i] = (struct share){ .cache = box->cache };
	pthread_barrier_init(&all_pin, NULL, THREADS + 1);
	pthread_barrier_init(&all_unpin, NULL, THREADS + 1);
	threads_start(&threads, THREADS, pin_and_wait, shares,
		      sizeof(*shares));
	pthread_barrier_wait(&all_pin);
	for (int i = 0; i < THREADS; i++)
		in_slots += cache_pin_slot(&shares[i].pin) != 0;
	assert_true(in_slots > 0 && in_slots <= COUNTER_OWNERS);
	assert_int_equal(cache_slot_pins(e), in_slots);
	assert_int_equal(word_pins(e), THREADS - in_slots);
	assert_weights(box, 0, 70);
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	assert_int_equal(word_pins(e), THREADS);
	assert_weights(box, 0, 70);
	pthread_barrier_wait(&all_unpin);
	assert_int_equal(threads_join(&threads), 0);
	assert_int_equal(box_times(box, number(1)), 1);
	assert_weights(box, 0, 0);
	pthread_barrier_destroy(&all_pin);
	pthread_barrier_destroy(&all_unpin);
	box_end(box);
}

/* ---- other ways to pin ---- */

static void test_pin_again(void **state)
{
	struct box *box = box_begin(100);
	struct cache_entry *e = put_open(box->cache, 1, 70);
	struct seg_pin first = get_in_slot(box->cache, 1);
	struct seg_pin last = first, pin;
	uint64_t word = entry_look(e);

	(void)state;
	assert_int_equal(seg_pin_again(&last, &pin), 0);
	assert_int_not_equal(cache_pin_slot(&pin), 0);
	assert_int_not_equal(cache_pin_slot(&pin), cache_pin_slot(&first));
	assert_int_equal(cache_slot_pins(e), 2);
	unpin(&first);
	unpin(&pin);
	assert_int_equal(seg_pin_again(&last, &last), 0);
	assert_int_not_equal(cache_pin_slot(&last), 0);
	assert_ptr_equal(seg_pin_value(&last), number(1));
	assert_int_equal(entry_look(e), word);
	pin = last;
	/* Hidden, then gone, then another's. */
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	assert_int_equal(seg_pin_again(&pin, &first), -ENOENT);
	unpin(&last);
	assert_int_equal(seg_pin_again(&pin, &first), -ENOENT);
	assert_ptr_equal(put_open(box->cache, 2, 60), e);
	assert_int_equal(seg_pin_again(&pin, &first), -ENOENT);
	assert_int_equal(slots_in_use(), 0);
	assert_int_equal(cache_stats(box->cache).misuses_total, 0);
	box_end(box);
}

static int load_it(void *ctx, uint64_t key, void **ret_value,
		   uint64_t *ret_weight)
{
	unsigned *loads = ctx;

	++*loads;
	*ret_value = number(key);
	*ret_weight = 70;
	return 0;
}

static void test_get_or_load(void **state)
{
	struct box *box = box_begin(100);
	unsigned loads = 0;
	struct seg_pin pin;

	(void)state;
	(void)counter_slot();
	for (int i = 0; i < 1 + CACHE_MARK_MOST + 1; i++) {
		assert_int_equal(seg_cache_get_or_load(box->cache, 1, load_it,
						       &loads, 0, &pin), 0);
		if (i == CACHE_MARK_MOST)	/* the load was no hit */
			make_open(box->cache, 1);
		if (i <= CACHE_MARK_MOST)
			unpin(&pin);
	}
	assert_int_not_equal(cache_pin_slot(&pin), 0);
	assert_ptr_equal(seg_pin_value(&pin), number(1));
	assert_int_equal(loads, 1);
	assert_weights(box, 0, 70);
	unpin(&pin);
	box_end(box);
}

/* ---- wrong unpins ---- */

static void test_a_second_unpin_of_a_copy(void **state)
{
	struct box *box = box_begin(200);
	struct seg_pin pin, copy, other;

	(void)state;
	put_open(box->cache, 1, 70);
	put_open(box->cache, 2, 60);
	pin = copy = get_in_slot(box->cache, 1);
	assert_ptr_equal(seg_pin_value(&copy), number(1));
	unpin(&copy);
	copy = pin;
	assert_int_equal(seg_unpin(&pin), -ESTALE);
	assert_int_equal(cache_stats(box->cache).misuses_total, 1);
	assert_int_equal(recorder_has(&box->lines, "Cache: unpin of what is "
						   "not pinned"), 1);
	/* The slot is another entry's pin by now, which stays. */
	other = get_in_slot(box->cache, 2);
	assert_int_equal(cache_pin_slot(&other), cache_pin_slot(&copy));
	assert_int_equal(seg_unpin(&copy), -ESTALE);
	assert_int_equal(cache_stats(box->cache).misuses_total, 2);
	assert_weights(box, 70, 60);
	unpin(&other);
	assert_weights(box, 130, 0);
	box_end(box);
}

/* It was moved to the word; the entry has ended, and is another key's. */
static void test_a_second_unpin_of_one_that_was_moved(void **state)
{
	struct box *box = box_begin(200);
	struct seg_pin pin, copy, other;

	(void)state;
	put_open(box->cache, 1, 70);
	pin = copy = get_in_slot(box->cache, 1);
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	unpin(&pin);
	assert_int_equal(box_heard(box), 1);
	put(box->cache, 2, number(2), 60);
	assert_ptr_equal(entry_of(box->cache, 2), copy.entry);
	other = get(box->cache, 2);
	assert_int_equal(cache_pin_slot(&other), 0);
	assert_int_equal(seg_unpin(&copy), -ESTALE);
	assert_int_equal(cache_stats(box->cache).misuses_total, 1);
	assert_weights(box, 0, 60);
	unpin(&other);
	box_end(box);
}

/* ---- tags ---- */

static struct seg_pin_report pins_of(struct box *box)
{
	struct seg_pin_report r = { .size = sizeof(r) };

	assert_int_equal(seg_cache_pins(box->cache, &r), 0);
	return r;
}

static void test_a_tagged_pin_leaves_its_slot(void **state)
{
	struct box *box = box_begin(100);
	struct cache_entry *e = put_open(box->cache, 1, 70);
	struct seg_pin pin = get_in_slot(box->cache, 1);
	struct seg_pin other = get_in_slot(box->cache, 1);

	(void)state;
	assert_int_equal(pins_of(box).tagged, 0);
	assert_int_equal(pins_of(box).pinned_weight, 70);
	assert_int_equal(seg_pin_tag(&pin, 7), 0);
	assert_int_equal(cache_pin_slot(&pin), 0);
	assert_int_equal(cache_slot_pins(e), 1);
	assert_int_equal(word_pins(e), 1);
	assert_int_equal(pins_of(box).tagged, 1);
	assert_int_equal(pins_of(box).longest[0].tag, 7);
	assert_int_equal(pins_of(box).longest[0].weight, 70);
	assert_int_equal(pins_of(box).pinned_weight, 70);
	assert_weights(box, 0, 70);
	unpin(&other);
	assert_weights(box, 0, 70);
	unpin(&pin);
	assert_int_equal(pins_of(box).tagged, 0);
	assert_weights(box, 70, 0);
	box_end(box);
}

/* ... which another had moved before, and maybe hidden. */
static void test_a_tag_for_one_that_was_moved(void **state)
{
	struct box *box = box_begin(100);
	struct cache_entry *e = put_open(box->cache, 1, 70);
	struct seg_pin pin = get_in_slot(box->cache, 1), copy;

	(void)state;
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	assert_int_equal(word_pins(e), 1);
	assert_int_equal(seg_pin_tag(&pin, 7), 0);
	assert_int_equal(word_pins(e), 1);
	assert_int_equal(pins_of(box).tagged, 1);
	unpin(&pin);
	assert_int_equal(pins_of(box).tagged, 0);
	assert_int_equal(box_heard(box), 1);
	/* Given back: there is nothing to tag, though the slot has a pin of
	 * what is another key's by now. */
	put_open(box->cache, 2, 60);
	pin = copy = get_in_slot(box->cache, 2);
	unpin(&pin);
	assert_int_equal(seg_cache_remove(box->cache, 2, NULL), 0);
	assert_ptr_equal(put_open(box->cache, 3, 50), e);
	pin = get_in_slot(box->cache, 3);
	assert_int_equal(cache_pin_slot(&pin), cache_pin_slot(&copy));
	assert_int_equal(seg_pin_tag(&copy, 7), -EINVAL);
	assert_weights(box, 0, 50);
	unpin(&pin);
	assert_weights(box, 50, 0);
	box_end(box);
}

/* The word has no room for it: it stays where it was. */
static void test_a_tag_for_one_pin_too_many(void **state)
{
	struct box *box = box_begin(100);
	struct cache_entry *e = put_open(box->cache, 1, 70);
	struct seg_pin pin = get_in_slot(box->cache, 1);
	uint64_t word = entry_look(e);

	(void)state;
	u64_store_relaxed(&e->word, word | ENTRY_FULL);
	assert_int_equal(seg_pin_tag(&pin, 7), -ENOMEM);
	u64_store_relaxed(&e->word, word);
	assert_weights(box, 0, 70);
	unpin(&pin);
	assert_weights(box, 70, 0);
	box_end(box);
}

/* ---- sums ---- */

struct walk {
	uint64_t pins[3], weight;
};

static int note_pins(void *ctx, const struct seg_cache_entry_info *info)
{
	struct walk *walk = ctx;

	walk->pins[info->key] = info->pins;
	walk->weight += info->weight;
	return 0;
}

static void assert_pins(struct box *box, uint64_t one, uint64_t two)
{
	struct walk walk = { .weight = 0 };

	assert_int_equal(seg_cache_each(box->cache, note_pins, &walk), 0);
	assert_int_equal(walk.pins[1], one);
	assert_int_equal(walk.pins[2], two);
	assert_int_equal(walk.weight, 130);
}

/* In slots of one thread and of others, and in the word: each entry once. */
static void test_sums_are_exact(void **state)
{
	struct box *box = box_begin(200);
	struct share s[3];
	struct actor actor[3];
	struct seg_pin mine[2], word;

	(void)state;
	put_open(box->cache, 1, 70);
	put_open(box->cache, 2, 60);
	assert_weights(box, 130, 0);
	for (int i = 0; i < 3; i++) {
		s[i] = (struct share){ .cache = box->cache };
		actor_begin(&actor[i]);
		actor_do(&actor[i], share_get, &s[i]);
		assert_weights(box, 60, 70);
		assert_pins(box, 1 + (uint64_t)i, 0);
	}
	for (int i = 0; i < 2; i++)
		mine[i] = get_in_slot(box->cache, 1);
	word = get_in_slot(box->cache, 1);
	assert_int_equal(seg_pin_tag(&word, 1), 0);
	assert_weights(box, 60, 70);
	assert_pins(box, 6, 0);
	for (int i = 0; i < 3; i++) {
		actor_do(&actor[i], share_unpin, &s[i]);
		actor_end(&actor[i]);
	}
	unpin(&mine[0]);
	mine[0] = get_in_slot(box->cache, 2);
	assert_weights(box, 0, 130);
	assert_pins(box, 2, 1);
	unpin(&mine[1]);
	assert_weights(box, 0, 130);
	assert_pins(box, 1, 1);
	unpin(&word);
	assert_weights(box, 70, 60);
	assert_pins(box, 0, 1);
	unpin(&mine[0]);
	assert_weights(box, 130, 0);
	assert_pins(box, 0, 0);
	box_end(box);
}

/* What is done to one is not done to the other. */
static void test_two_caches(void **state)
{
	struct box *box[2] = { box_begin(100), box_begin(100) };
	struct seg_pin pin[4];

	(void)state;
	for (int i = 0; i < 2; i++)
		put_open(box[i]->cache, 1, 70 + (uint64_t)i);
	for (int i = 0; i < 4; i++)
		pin[i] = get_in_slot(box[i % 2]->cache, 1);
	assert_weights(box[0], 0, 70);
	assert_weights(box[1], 0, 71);
	assert_int_equal(seg_cache_clear(box[0]->cache), 0);
	assert_int_equal(slots_in_use(), 2);
	assert_int_equal(word_pins(entry_of(box[1]->cache, 1)), 0);
	assert_int_equal(seg_cache_destroy(box[0]->cache), -EBUSY);
	assert_int_equal(slots_in_use(), 2);
	for (int i = 0; i < 4; i += 2) {
		assert_int_equal(box_heard(box[0]), 0);
		unpin(&pin[i]);
	}
	assert_int_equal(box_heard(box[0]), 1);
	box_end(box[0]);
	assert_weights(box[1], 0, 71);
	for (int i = 1; i < 4; i += 2)
		unpin(&pin[i]);
	assert_int_equal(box_heard(box[1]), 0);
	box_end(box[1]);
}

/* ---- forks ---- */

#ifndef SEG_TSAN

/* The parent's pins stand in slots of the same numbers, for ever. */
static int have_a_cache_of_its_own(void *ctx)
{
	unsigned before = *(unsigned *)ctx;
	struct box *box = box_begin(100);
	struct cache_entry *e = put_open(box->cache, 1, 70);
	struct seg_pin pin[PIN_SLOTS];
	unsigned in_slots = 0;

	assert_weights(box, 70, 0);
	for (int i = 0; i < PIN_SLOTS; i++) {
		pin[i] = get(box->cache, 1);
		in_slots += cache_pin_slot(&pin[i]) != 0;
	}
	require(in_slots > 0 && slots_in_use() == before + in_slots);
	require(cache_slot_pins(e) == in_slots);
	assert_weights(box, 0, 70);
	require(!seg_cache_remove(box->cache, 1, NULL));
	require(slots_in_use() == before);
	for (int i = 0; i < PIN_SLOTS; i++) {
		require(box_heard(box) == 0);
		unpin(&pin[i]);
	}
	require(box_heard(box) == 1);
	box_end(box);
	return 0;
}

static void test_a_fork(void **state)
{
	struct share s = { .cache = NULL };
	struct actor actor;
	struct seg_pin pin;
	struct box *box;
	unsigned slots;

	(void)state;
	if (emulated("a child of several threads can start none"))
		skip();
	box = box_begin(100);
	s.cache = box->cache;
	put_open(box->cache, 1, 70);
	pin = get_in_slot(box->cache, 1);
	actor_begin(&actor);
	actor_do(&actor, share_get, &s);
	slots = slots_in_use();
	assert_int_equal(slots, 2);
	assert_int_equal(run_in_child(have_a_cache_of_its_own, &slots), 0);
	assert_int_equal(slots_in_use(), 2);
	assert_weights(box, 0, 70);
	actor_do(&actor, share_unpin, &s);
	actor_end(&actor);
	unpin(&pin);
	box_end(box);
}

#endif

#define unit(test) cmocka_unit_test_teardown(test, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(test_an_entry_opens_after_hits),
		unit(test_hits_are_counted),
		unit(test_more_pins_than_slots),
		unit(test_a_closed_one_opens_again),
		unit(test_none_opens_where_pages_move),
		unit(test_another_thread_unpins),
		unit(test_the_thread_has_ended),
		unit(test_threads_without_a_number),
		unit(test_pin_again),
		unit(test_get_or_load),
		unit(test_a_second_unpin_of_a_copy),
		unit(test_a_second_unpin_of_one_that_was_moved),
		unit(test_a_tagged_pin_leaves_its_slot),
		unit(test_a_tag_for_one_that_was_moved),
		unit(test_a_tag_for_one_pin_too_many),
		unit(test_sums_are_exact),
		unit(test_two_caches),
#ifndef SEG_TSAN	/* it has no threads in a child */
		unit(test_a_fork),
#endif
	};

	if (!sections_begin()) {
		print_message("no membarrier, so no pins in slots\n");
		return TESTING_SKIPPED;
	}
	return run_group(tests);
}
