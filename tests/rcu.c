/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/rcu.h: a grace period waits for each read section that was open when it
 * began (P4), whichever thread it is in, and a fork loses nobody but the
 * threads that the child has not got (P11).  Under ThreadSanitizer the same
 * tests hold that the seam is silent about correct use; that it is not silent
 * about wrong use, rcu_faults.sh holds.
 */
#include "testing.h"

#include "atomic.h"
#include "rcu.h"

enum { READERS = 2, PUBLISHED = 100, SHORT_LIVED = 100, ALIVE = 1, DEAD = 2 };

static void test_sections_nest(void **state)
{
	(void)state;
	assert_false(rcu_inside());
	rcu_enter();
	assert_true(rcu_inside());
	rcu_enter();
	rcu_leave();
	assert_true(rcu_inside());
	rcu_leave();
	assert_false(rcu_inside());
}

static void test_nobody_inside_is_nobody_to_wait_for(void **state)
{
	(void)state;
	rcu_wait_for_readers();
	rcu_enter();
	rcu_leave();
	rcu_wait_for_readers();
	assert_false(rcu_inside());
}

/* A reader that leaves an inner section first, and then the outer one. */
struct reader {
	pthread_t thread;
	sem_t inside, inner, outer;
	bool left;
};

static void *read_when_told(void *arg)
{
	struct reader *r = arg;

	rcu_enter();
	rcu_enter();
	sem_post(&r->inside);
	wait_for(&r->inner);
	rcu_leave();
	sem_post(&r->inside);
	wait_for(&r->outer);
	r->left = true;
	rcu_leave();
	return NULL;
}

static void reader_start(struct reader *r)
{
	r->left = false;
	sem_init(&r->inside, 0, 0);
	sem_init(&r->inner, 0, 0);
	sem_init(&r->outer, 0, 0);
	assert_int_equal(pthread_create(&r->thread, NULL, read_when_told, r),
			 0);
	wait_for(&r->inside);
}

/* Waits for a grace period, and notes whether the reader had left. */
struct waiter {
	pthread_t thread;
	struct reader *reader;
	sem_t done;
	bool reader_had_left;
};

static void *wait_for_readers(void *arg)
{
	struct waiter *w = arg;

	rcu_wait_for_readers();
	w->reader_had_left = w->reader->left;
	sem_post(&w->done);
	return NULL;
}

static void test_grace_period_waits_for_the_outermost_leave(void **state)
{
	struct reader reader;
	struct waiter waiter = { .reader = &reader };

	(void)state;
	reader_start(&reader);
	sem_init(&waiter.done, 0, 0);
	assert_int_equal(pthread_create(&waiter.thread, NULL, wait_for_readers,
					&waiter), 0);
	assert_false(happens_soon(&waiter.done));
	sem_post(&reader.inner);
	wait_for(&reader.inside);
	assert_false(happens_soon(&waiter.done));
	sem_post(&reader.outer);
	wait_for(&waiter.done);
	assert_true(waiter.reader_had_left);
	pthread_join(waiter.thread, NULL);
	pthread_join(reader.thread, NULL);
}

struct object {
	int life;	/* plain: what RCU is there to protect */
	uint64_t payload;
};

static struct atomic_ptr published;
static struct atomic_u32 stop;

/* Looks twice in each section; returns itself if an object was dead. */
static void *read_published(void *arg)
{
	bool dead = false;

	while (!u32_load_relaxed(&stop)) {
		const struct object *o;

		rcu_enter();
		o = ptr_load_acquire(&published);
		dead |= o->life != ALIVE || o->payload != (uintptr_t)o;
		sched_yield();
		dead |= o->life != ALIVE;
		rcu_leave();
	}
	return dead ? arg : NULL;
}

static struct object *new_object(void)
{
	struct object *o = malloc(sizeof(*o));

	assert_non_null(o);
	*o = (struct object){ .life = ALIVE, .payload = (uintptr_t)o };
	return o;
}

/* Readers come without a gap, and grace periods end all the same. */
static void test_no_reader_sees_what_was_reclaimed(void **state)
{
	struct threads t;
	int arg;

	(void)state;
	u32_store_relaxed(&stop, 0);
	ptr_store_release(&published, new_object());
	threads_start(&t, READERS, read_published, &arg, 0);
	for (int i = 0; i < PUBLISHED; i++) {
		struct object *old = ptr_load_relaxed(&published);

		ptr_store_release(&published, new_object());
		rcu_wait_for_readers();
		old->life = DEAD;
		free(old);
	}
	u32_store_relaxed(&stop, 1);
	assert_int_equal(threads_join(&t), 0);
	free(ptr_load_relaxed(&published));
}

/* Threads register by themselves, and leave nothing behind. */
static void *read_once(void *arg)
{
	rcu_enter();
	rcu_leave();
	return rcu_inside() ? arg : NULL;
}

static void test_threads_come_and_go(void **state)
{
	struct threads t;
	int arg;

	(void)state;
	for (int i = 0; i < SHORT_LIVED; i++) {
		threads_start(&t, READERS, read_once, &arg, 0);
		rcu_wait_for_readers();
		assert_int_equal(threads_join(&t), 0);
	}
}

/* ---- sections of the application's ---- */

static void assert_outside(void)
{
	assert_false(rcu_inside());
	assert_int_equal(rcu_place(), 0);
}

static void assert_inside_a_place(void)
{
	assert_true(rcu_inside());
	assert_int_equal(rcu_place(), counter_place_of(counter_slot()));
}

static void test_the_applications_sections_nest(void **state)
{
	(void)state;
	counter_slot();
	for (int round = 0; round < 3; round++) {
		assert_outside();
		rcu_begin();
		assert_inside_a_place();
		rcu_begin();
		rcu_begin();
		rcu_end();
		assert_inside_a_place();
		rcu_end();
		assert_inside_a_place();
		rcu_end();
	}
	assert_outside();
}

/* Whichever of two sections ends first, the other one goes on. */
static void test_sections_of_both_kinds_overlap(void **state)
{
	(void)state;
	rcu_enter();
	assert_int_equal(rcu_place(), 0);
	rcu_begin();
	assert_inside_a_place();
	rcu_leave();
	assert_inside_a_place();
	rcu_enter();
	rcu_end();
	assert_int_equal(rcu_place(), 0);
	assert_true(rcu_inside());
	rcu_leave();
	assert_outside();
}

static void test_an_end_without_a_begin_does_nothing(void **state)
{
	(void)state;
	rcu_end();
	assert_outside();
	rcu_enter();
	rcu_end();
	assert_true(rcu_inside());
	rcu_leave();
	rcu_begin();
	rcu_end();
	rcu_end();
	assert_outside();
	/* One that somebody else has ended. */
	rcu_begin();
	rcu_leave();
	rcu_end();
	assert_outside();
	rcu_begin();
	assert_inside_a_place();
	rcu_end();
	assert_outside();
}

static void *get_a_place_inside(void *arg)
{
	bool before, after, next;

	rcu_begin();
	before = rcu_place() == 0;
	counter_slot();
	after = rcu_place() == 0;
	rcu_end();
	rcu_begin();
	next = rcu_place() == counter_place();
	rcu_end();
	return before && after && next && counter_place() ? NULL : arg;
}

/* It is for the next section. */
static void test_a_place_that_comes_inside(void **state)
{
	struct threads t;
	int arg;

	(void)state;
	threads_start(&t, 1, get_a_place_inside, &arg, 0);
	assert_int_equal(threads_join(&t), 0);
}

struct ending {
	pthread_key_t key;
	bool again;		/* liburcu and counter.c have let go of it */
	bool right;
};

/* The thread has ended in a section, and goes on when all that has its end to
 * see to has done so. */
static void go_on(void *arg)
{
	struct ending *e = arg;
	bool *ret_right = &e->right;

	if (!e->again) {
		e->again = !pthread_setspecific(e->key, e);
		return;
	}
	*ret_right = !rcu_inside();
	rcu_begin();
	*ret_right &= rcu_inside() && rcu_place() == 0;
	rcu_begin();
	rcu_end();
	*ret_right &= rcu_inside();
	rcu_end();
	*ret_right &= !rcu_inside();
	/* The sections that it ended in are not counted any more. */
	rcu_enter();
	rcu_end();
	*ret_right &= rcu_inside();
	rcu_leave();
	counter_slot();
	*ret_right &= rcu_place() == 0;
	rcu_begin();
	*ret_right &= rcu_place() == counter_place();
	rcu_end();
}

static void *end_inside(void *arg)
{
	struct ending *e = arg;

	counter_slot();
	rcu_begin();
	rcu_begin();
	return pthread_setspecific(e->key, e) ? arg : NULL;
}

static void test_a_thread_that_ends_inside(void **state)
{
	struct ending e = { .right = false };
	struct threads t;

	(void)state;
	assert_int_equal(pthread_key_create(&e.key, go_on), 0);
	threads_start(&t, 1, end_inside, &e, 0);
	assert_int_equal(threads_join(&t), 0);
	assert_true(e.right);
	rcu_wait_for_readers();
	pthread_key_delete(e.key);
}

/* A grace period waits for the application's sections as for others. */
static void *begin_when_told(void *arg)
{
	struct reader *r = arg;

	for (int round = 0; round < 2; round++) {
		rcu_begin();
		sem_post(&r->inside);
		wait_for(&r->outer);
		r->left = round == 1;
		rcu_end();
	}
	return NULL;
}

static void test_grace_period_waits_for_the_application(void **state)
{
	struct reader r = { .left = false };
	struct waiter waiter = { .reader = &r };

	(void)state;
	sem_init(&r.inside, 0, 0);
	sem_init(&r.outer, 0, 0);
	sem_init(&waiter.done, 0, 0);
	pthread_create(&r.thread, NULL, begin_when_told, &r);
	wait_for(&r.inside);
	sem_post(&r.outer);
	/* The second one began without a call, where that may be. */
	wait_for(&r.inside);
	pthread_create(&waiter.thread, NULL, wait_for_readers, &waiter);
	assert_false(happens_soon(&waiter.done));
	sem_post(&r.outer);
	wait_for(&waiter.done);
	assert_true(waiter.reader_had_left);
	pthread_join(waiter.thread, NULL);
	pthread_join(r.thread, NULL);
}

static pid_t fork_with_handlers(void)
{
	pid_t child;

	fflush(NULL);
	rcu_before_fork();
	child = fork();
	if (child)
		rcu_after_fork_parent();
	else
		rcu_after_fork_child();
	return child;
}

/* The reader that stays inside does not exist in the child. */
static void test_child_does_not_wait_for_the_parents_readers(void **state)
{
	struct reader reader;
	int status = -1;
	pid_t child;

	(void)state;
	reader_start(&reader);
	child = fork_with_handlers();
	if (child == 0) {
		watchdog_start();
		rcu_enter();
		rcu_leave();
		rcu_wait_for_readers();
		_exit(rcu_inside());
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	sem_post(&reader.inner);
	sem_post(&reader.outer);
	pthread_join(reader.thread, NULL);
	rcu_wait_for_readers();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sections_nest),
		cmocka_unit_test(test_nobody_inside_is_nobody_to_wait_for),
		cmocka_unit_test(
			test_grace_period_waits_for_the_outermost_leave),
		cmocka_unit_test(test_no_reader_sees_what_was_reclaimed),
		cmocka_unit_test(test_threads_come_and_go),
		cmocka_unit_test(test_the_applications_sections_nest),
		cmocka_unit_test(test_sections_of_both_kinds_overlap),
		cmocka_unit_test(test_an_end_without_a_begin_does_nothing),
		cmocka_unit_test(test_a_place_that_comes_inside),
		cmocka_unit_test(test_a_thread_that_ends_inside),
		cmocka_unit_test(test_grace_period_waits_for_the_application),
		cmocka_unit_test(
			test_child_does_not_wait_for_the_parents_readers),
	};

	return run_group(tests);
}
