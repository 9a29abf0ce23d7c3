/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/work_queue.h: (W1) what the pusher wrote is seen by the taker; (W2) no
 * push is slept through.  A lost wake-up is a hang, ended by the watchdog.
 */
#include "testing.h"

#include "os.h"
#include "work_queue.h"

enum { THREADS = 4, PUSHES = 3000 };

struct item {
	struct work work;	/* first: the queue hands out its address */
	unsigned thread;
	unsigned number;
};

static struct item items[THREADS][PUSHES];
static struct work_queue queue;

static void fill_items(void)
{
	memset(&queue, 0, sizeof(queue));
	memset(items, 0, sizeof(items));
}

static void test_empty_queue_gives_nothing(void **state)
{
	(void)state;
	fill_items();
	assert_null(work_queue_take_all(&queue));
	work_queue_kick(&queue);
	assert_null(work_queue_take_all(&queue));
}

static void test_oldest_comes_first(void **state)
{
	struct work *w;

	(void)state;
	fill_items();
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 10; i++)
			work_queue_push(&queue, &items[0][i].work);
		w = work_queue_take_all(&queue);
		for (unsigned i = 0; i < 10; i++, w = w->next)
			assert_ptr_equal(w, &items[0][i].work);
		assert_null(w);
		assert_null(work_queue_take_all(&queue));
	}
}

/* If one of them slept, it would sleep for ever. */
static void test_push_or_kick_since_the_ticket_ends_the_sleep(void **state)
{
	uint32_t ticket;

	(void)state;
	fill_items();
	ticket = work_queue_ticket(&queue);
	work_queue_push(&queue, &items[0][0].work);
	assert_int_not_equal(work_queue_ticket(&queue), ticket);
	work_queue_sleep(&queue, ticket, OS_FOREVER);
	ticket = work_queue_ticket(&queue);
	work_queue_kick(&queue);
	work_queue_sleep(&queue, ticket, OS_FOREVER);
	ticket = work_queue_ticket(&queue);
	work_queue_sleep(&queue, ticket, 1000000);
	assert_int_equal(work_queue_ticket(&queue), ticket);
}

static void *push_all(void *arg)
{
	struct item *mine = arg;

	for (unsigned i = 0; i < PUSHES; i++) {
		mine[i].thread = (unsigned)(mine - items[0]) / PUSHES;
		mine[i].number = i + 1;
		work_queue_push(&queue, &mine[i].work);
	}
	return NULL;
}

/* Counts what it takes; whatever is not the thread's next one is wrong. */
static unsigned judge(struct work *w, unsigned last[THREADS], bool *ret_wrong)
{
	unsigned taken = 0;

	for (; w; w = w->next, taken++) {
		struct item *item = (struct item *)w;

		if (item->number != last[item->thread] + 1)
			*ret_wrong = true;
		last[item->thread] = item->number;
	}
	return taken;
}

/* W1, W2: sleeps whenever there is nothing, and yet gets everything once. */
static void test_everything_arrives_once_and_in_order(void **state)
{
	unsigned last[THREADS] = { 0 };
	unsigned taken = 0;
	bool wrong = false;
	struct threads t;

	(void)state;
	fill_items();
	threads_start(&t, THREADS, push_all, items, sizeof(items[0]));
	while (taken < THREADS * PUSHES) {
		uint32_t ticket = work_queue_ticket(&queue);
		struct work *w = work_queue_take_all(&queue);

		if (!w)
			work_queue_sleep(&queue, ticket, OS_FOREVER);
		taken += judge(w, last, &wrong);
	}
	assert_int_equal(threads_join(&t), 0);
	assert_false(wrong);
	assert_int_equal(taken, THREADS * PUSHES);
	assert_null(work_queue_take_all(&queue));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty_queue_gives_nothing),
		cmocka_unit_test(test_oldest_comes_first),
		cmocka_unit_test(
			test_push_or_kick_since_the_ticket_ends_the_sleep),
		cmocka_unit_test(test_everything_arrives_once_and_in_order),
	};

	return run_group(tests);
}
