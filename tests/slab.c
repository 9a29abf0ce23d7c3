/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/slab.h: (S1) an object has one owner; memory that was an object stays
 * one, so that a stale pointer can be looked at (P7).
 */
#include "testing.h"

#include "os.h"
#include "slab.h"

enum {
	BASE_BITS = 8,
	BASE = 1 << BASE_BITS,
	THREE_CHUNKS = BASE + 2 * BASE + 4 * BASE,
	THREADS = 4,
	HELD = 5,
	ROUNDS = 4000,
};

struct object {
	struct slab_item item;	/* first */
	uint64_t owner;		/* plain: S1 protects it */
	char rest[40];
};

static struct slab slab;

static int new_slab(void **state)
{
	(void)state;
	memset(&slab, 0, sizeof(slab));
	slab.object_bytes = sizeof(struct object);
	slab.base_bits = BASE_BITS;
	return 0;
}

static int end_slab(void **state)
{
	(void)state;
	slab_clear(&slab);
	return 0;
}

static struct object *get(void)
{
	struct object *o = (struct object *)slab_get(&slab);

	assert_non_null(o);
	return o;
}

static void put(struct object *o)
{
	slab_put(&slab, &o->item);
}

static void test_a_new_object_is_zero(void **state)
{
	const char zeros[sizeof(struct object)] = { 0 };

	(void)state;
	assert_int_equal(slab_bytes(&slab), 0);
	assert_memory_equal(get(), zeros, sizeof(struct object));
	assert_int_equal(slab_bytes(&slab), BASE * sizeof(struct object));
}

static void test_objects_are_numbered_and_apart(void **state)
{
	struct object *before = get();

	(void)state;
	assert_int_equal(before->item.number, 0);
	for (uint32_t i = 1; i < BASE; i++) {
		struct object *o = get();

		assert_int_equal(o->item.number, i);
		assert_ptr_equal(o, before + 1);
		before = o;
	}
}

/* Chunks double; objects before and behind each border are whole. */
static void test_chunk_borders(void **state)
{
	static struct object *objects[THREE_CHUNKS + 1];
	const uint64_t first = BASE * sizeof(struct object);

	(void)state;
	for (uint32_t i = 0; i <= THREE_CHUNKS; i++) {
		uint64_t chunks = i < BASE ? 1 : i < 3 * BASE ? 3 :
				  i < 7 * BASE ? 7 : 15;

		objects[i] = get();
		assert_int_equal(objects[i]->item.number, i);
		assert_int_equal(objects[i]->owner, 0);
		assert_int_equal(slab_bytes(&slab), chunks * first);
		objects[i]->owner = i + 1;
		memset(objects[i]->rest, 0xa5, sizeof(objects[i]->rest));
	}
	for (uint32_t i = 0; i <= THREE_CHUNKS; i++) {
		assert_int_equal(objects[i]->owner, i + 1);
		assert_int_equal(objects[i]->item.number, i);
	}
}

static void test_the_last_put_is_got_first(void **state)
{
	struct object *objects[10];
	uint64_t bytes;

	(void)state;
	for (int i = 0; i < 10; i++)
		objects[i] = get();
	bytes = slab_bytes(&slab);
	for (int i = 0; i < 10; i++)
		put(objects[i]);
	for (int i = 10; i-- > 0;)
		assert_ptr_equal(get(), objects[i]);
	assert_int_equal(get()->item.number, 10);
	assert_int_equal(slab_bytes(&slab), bytes);
}

/* Type stability: number and contents outlive put and get. */
static void test_objects_stay_what_they_were(void **state)
{
	struct object *o = get();

	(void)state;
	o->owner = 77;
	memset(o->rest, 0x5a, sizeof(o->rest));
	put(o);
	assert_int_equal(o->item.number, 0);
	assert_int_equal(o->owner, 77);
	assert_ptr_equal(get(), o);
	assert_int_equal(o->owner, 77);
	assert_int_equal(o->rest[39], 0x5a);
}

/* S1: what a getter read before it stopped no longer exchanges. */
static void test_every_get_raises_the_tag(void **state)
{
	struct object *a = get(), *b = get();
	uint64_t stale;

	(void)state;
	put(b);
	put(a);
	stale = u64_load_relaxed(&slab.head);
	assert_ptr_equal(get(), a);
	assert_ptr_equal(get(), b);
	put(a);
	assert_int_equal(u64_load_relaxed(&slab.head) & (BASE - 1),
			 stale & (BASE - 1));
	assert_false(u64_cas_strong_relaxed(&slab.head, &stale, 0));
	assert_ptr_equal(get(), a);
	assert_int_equal(get()->item.number, 2);
}

/* Behind the last chunk there is nothing; what was put is still to be had. */
static void test_no_number_is_left(void **state)
{
	struct object *o = get();

	(void)state;
	u32_store_relaxed(&slab.used,
			  ((uint32_t)BASE << SLAB_CHUNKS) - BASE);
	assert_null(slab_get(&slab));
	put(o);
	assert_ptr_equal(get(), o);
	assert_null(slab_get(&slab));
}

static void *own_in_turns(void *arg)
{
	uint64_t me = *(uint64_t *)arg;
	struct object *held[HELD];
	bool wrong = false;

	for (uint64_t i = 0; i < ROUNDS; i++) {
		uint64_t n = 1 + i % HELD;

		for (uint64_t k = 0; k < n; k++) {
			held[k] = (struct object *)slab_get(&slab);
			wrong |= held[k]->owner != 0;
			held[k]->owner = me;
		}
		for (uint64_t k = 0; k < n; k++) {
			wrong |= held[k]->owner != me;
			held[k]->owner = 0;
			put(held[k]);
		}
	}
	return wrong ? arg : NULL;
}

/* And no more objects are made than were ever held at once. */
static void test_an_object_has_one_owner(void **state)
{
	uint64_t names[THREADS] = { 1, 2, 3, 4 };
	struct threads t;

	(void)state;
	threads_start(&t, THREADS, own_in_turns, names, sizeof(*names));
	assert_int_equal(threads_join(&t), 0);
	assert_true(u32_load_relaxed(&slab.used) <= THREADS * HELD);
	assert_int_equal(slab_bytes(&slab), BASE * sizeof(struct object));
}

/* Four threads run over the borders of new chunks together. */
static void *get_many(void *arg)
{
	struct object **objects = arg;

	for (int i = 0; i < THREE_CHUNKS / THREADS; i++) {
		objects[i] = (struct object *)slab_get(&slab);
		if (!objects[i] || objects[i]->owner)
			return arg;
		objects[i]->owner = (uint64_t)i + 1;
	}
	return NULL;
}

static void test_threads_make_chunks_together(void **state)
{
	static struct object *objects[THREADS][THREE_CHUNKS / THREADS];
	static bool seen[THREE_CHUNKS];
	struct threads t;

	(void)state;
	threads_start(&t, THREADS, get_many, objects, sizeof(objects[0]));
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(slab_bytes(&slab),
			 THREE_CHUNKS * sizeof(struct object));
	for (int i = 0; i < THREE_CHUNKS; i++) {
		struct object *o = objects[i % THREADS][i / THREADS];

		assert_true(o->item.number < THREE_CHUNKS);
		assert_false(seen[o->item.number]);
		seen[o->item.number] = true;
	}
}

#define slab_test(f) cmocka_unit_test_setup_teardown(f, new_slab, end_slab)

int main(void)
{
	const struct CMUnitTest tests[] = {
		slab_test(test_a_new_object_is_zero),
		slab_test(test_objects_are_numbered_and_apart),
		slab_test(test_chunk_borders),
		slab_test(test_the_last_put_is_got_first),
		slab_test(test_objects_stay_what_they_were),
		slab_test(test_every_get_raises_the_tag),
		slab_test(test_no_number_is_left),
		slab_test(test_an_object_has_one_owner),
		slab_test(test_threads_make_chunks_together),
	};

	return run_group(tests);
}
