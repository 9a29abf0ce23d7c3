/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A pointer of each thread's: who has it, what happens when the thread ends and
 * when the user does.  Linked with fault_os.c in place of lib/os.c.
 */
#include "actors.h"

#include "fault_os.h"
#include "thread_slots.h"

static struct {
	pthread_mutex_t lock;
	unsigned count;
	void *pointer;
	pthread_t thread;
} ended = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void note_end(void *pointer)
{
	pthread_mutex_lock(&ended.lock);
	ended.count++;
	ended.pointer = pointer;
	ended.thread = pthread_self();
	pthread_mutex_unlock(&ended.lock);
}

static int begin(void **state)
{
	(void)state;
	ended.count = 0;
	ended.pointer = NULL;
	return 0;
}

/* What one thread does with a slot. */
struct use {
	unsigned slot;
	void *pointer;
	bool done;
};

static void set(void *use)
{
	struct use *u = use;

	u->done = thread_slot_set(u->slot, u->pointer);
}

static void get(void *use)
{
	struct use *u = use;

	u->pointer = thread_slot_get(u->slot);
}

static void *get_in(struct actor *a, unsigned slot)
{
	struct use u = { .slot = slot };

	actor_do(a, get, &u);
	return u.pointer;
}

static void set_in(struct actor *a, unsigned slot, void *pointer)
{
	struct use u = { .slot = slot, .pointer = pointer };

	actor_do(a, set, &u);
	assert_true(u.done);
}

static void test_there_are_so_many(void **state)
{
	bool seen[THREAD_SLOTS] = { false };

	(void)state;
	for (unsigned i = 0; i < THREAD_SLOTS; i++) {
		unsigned slot = thread_slot_claim(note_end);

		assert_true(slot < THREAD_SLOTS && !seen[slot]);
		seen[slot] = true;
	}
	assert_int_equal(thread_slot_claim(note_end), THREAD_SLOTS);
	/* What there is none of can be asked for all the same. */
	assert_null(thread_slot_get(THREAD_SLOTS));
	assert_false(thread_slot_set(THREAD_SLOTS, &seen));
	assert_null(thread_slot_get(THREAD_SLOTS));
	thread_slot_drop(THREAD_SLOTS);
	thread_slot_drop(17);
	assert_int_equal(thread_slot_claim(note_end), 17);
	for (unsigned i = 0; i < THREAD_SLOTS; i++)
		thread_slot_drop(i);
}

static void test_each_thread_has_its_own(void **state)
{
	unsigned slot[2] = { thread_slot_claim(note_end),
			     thread_slot_claim(note_end) };
	struct actor actor[2];
	int mine, theirs[2];

	(void)state;
	assert_true(thread_slot_set(slot[0], &mine));
	for (int i = 0; i < 2; i++) {
		actor_begin(&actor[i]);
		assert_null(get_in(&actor[i], slot[0]));
		set_in(&actor[i], slot[i], &theirs[i]);
	}
	assert_ptr_equal(get_in(&actor[0], slot[0]), &theirs[0]);
	assert_null(get_in(&actor[0], slot[1]));
	assert_null(get_in(&actor[1], slot[0]));
	assert_ptr_equal(get_in(&actor[1], slot[1]), &theirs[1]);
	assert_ptr_equal(thread_slot_get(slot[0]), &mine);
	assert_null(thread_slot_get(slot[1]));
	for (int i = 0; i < 2; i++) {
		pthread_t thread = actor[i].thread;

		actor_end(&actor[i]);
		assert_int_equal(ended.count, i + 1);
		assert_ptr_equal(ended.pointer, &theirs[i]);
		assert_true(pthread_equal(ended.thread, thread));
	}
	thread_slot_drop(slot[0]);
	thread_slot_drop(slot[1]);
	assert_int_equal(ended.count, 2);
}

/* The next user of the slot finds nothing of the last one's. */
static void test_a_drop_takes_it_from_all(void **state)
{
	unsigned slot = thread_slot_claim(note_end);
	struct actor actor;
	int theirs;

	(void)state;
	actor_begin(&actor);
	set_in(&actor, slot, &theirs);
	assert_true(thread_slot_set(slot, &slot));
	thread_slot_drop(slot);
	assert_int_equal(thread_slot_claim(note_end), slot);
	assert_null(thread_slot_get(slot));
	assert_null(get_in(&actor, slot));
	actor_end(&actor);
	assert_int_equal(ended.count, 0);
	thread_slot_drop(slot);
}

static sem_t in_end, may_end, dropped;

static void end_slowly(void *pointer)
{
	sem_post(&in_end);
	wait_for(&may_end);
	note_end(pointer);
}

static void drop(void *slot)
{
	thread_slot_drop(*(unsigned *)slot);
	sem_post(&dropped);
}

static void test_a_drop_waits_for_a_thread_that_ends(void **state)
{
	unsigned slot = thread_slot_claim(end_slowly);
	struct actor ends, drops;

	(void)state;
	sem_init(&in_end, 0, 0);
	sem_init(&may_end, 0, 0);
	sem_init(&dropped, 0, 0);
	actor_begin(&ends);
	actor_begin(&drops);
	set_in(&ends, slot, &slot);
	actor_start(&ends, NULL, NULL);
	wait_for(&in_end);
	actor_start(&drops, drop, &slot);
	assert_false(happens_soon(&dropped));
	sem_post(&may_end);
	wait_for(&dropped);
	assert_int_equal(ended.count, 1);
	actor_await(&drops);
	actor_end(&drops);
	assert_int_equal(pthread_join(ends.thread, NULL), 0);
}

static pthread_key_t late_key;

/* In a round of the thread's destructors after the one of the slots. */
static void use_late(void *use)
{
	struct use *u = use;

	if (!u->done) {
		u->done = true;
		pthread_setspecific(late_key, u);
		return;
	}
	require(thread_slot_get(u->slot) == NULL);
	require(thread_slot_set(u->slot, u->pointer));
}

static void begin_late(void *use)
{
	struct use *u = use;

	require(thread_slot_set(u->slot, u->pointer));
	require(!pthread_setspecific(late_key, u));
}

/* It has a pointer again, and that is ended, too. */
static void test_a_thread_goes_on_after_its_end(void **state)
{
	unsigned slot = thread_slot_claim(note_end);
	struct use u = { .slot = slot, .pointer = &u };
	uint64_t blocks = fault_blocks();
	struct actor actor;

	(void)state;
	assert_int_equal(pthread_key_create(&late_key, use_late), 0);
	actor_begin(&actor);
	actor_do(&actor, begin_late, &u);
	actor_end(&actor);
	assert_int_equal(ended.count, 2);
	assert_ptr_equal(ended.pointer, &u);
	assert_int_equal(fault_blocks(), blocks);
	pthread_key_delete(late_key);
	thread_slot_drop(slot);
}

/* The first, the last, one between; the others keep theirs. */
static void test_threads_end_in_any_order(void **state)
{
	static const int order[] = { 0, 4, 2 };
	unsigned slot = thread_slot_claim(note_end);
	uint64_t blocks = fault_blocks();
	struct actor actor[5];

	(void)state;
	for (int i = 0; i < 5; i++) {
		actor_begin(&actor[i]);
		set_in(&actor[i], slot, &actor[i]);
	}
	for (int i = 0; i < 3; i++) {
		actor_end(&actor[order[i]]);
		assert_ptr_equal(ended.pointer, &actor[order[i]]);
		assert_int_equal(fault_blocks(), blocks + 4 - (unsigned)i);
	}
	for (int i = 1; i < 5; i += 2)
		assert_ptr_equal(get_in(&actor[i], slot), &actor[i]);
	thread_slot_drop(slot);
	for (int i = 1; i < 5; i += 2) {
		assert_null(get_in(&actor[i], slot));
		actor_end(&actor[i]);
	}
	assert_int_equal(ended.count, 3);
	assert_int_equal(fault_blocks(), blocks);
}

static void test_without_memory_there_is_none(void **state)
{
	unsigned slot = thread_slot_claim(note_end);
	struct use u = { .slot = slot, .pointer = &u, .done = true };
	uint64_t blocks = fault_blocks();
	struct actor actor;

	(void)state;
	actor_begin(&actor);
	fault_arm(FAULT_CALLOC, 1, 1);
	actor_do(&actor, set, &u);
	assert_int_equal(fault_disarm(), 1);
	assert_false(u.done);
	assert_null(get_in(&actor, slot));
	set_in(&actor, slot, &u);
	assert_ptr_equal(get_in(&actor, slot), &u);
	assert_int_equal(fault_blocks(), blocks + 1);
	actor_end(&actor);
	assert_int_equal(fault_blocks(), blocks);
	assert_int_equal(ended.count, 1);
	thread_slot_drop(slot);
}

#define TEST(f) cmocka_unit_test_setup(f, begin)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_there_are_so_many),
		TEST(test_each_thread_has_its_own),
		TEST(test_a_drop_takes_it_from_all),
		TEST(test_a_drop_waits_for_a_thread_that_ends),
		TEST(test_a_thread_goes_on_after_its_end),
		TEST(test_threads_end_in_any_order),
		TEST(test_without_memory_there_is_none),
	};

	return run_group(tests);
}
