/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The keeper's queue: pushes against taking all, and no sleep through one. */
#include "explore.h"

#include <string.h>

#include "os.h"
#include "work_queue.h"

enum { ITEMS = 2 };

static struct work_queue queue;
static struct work item[ITEMS];
static struct explore_cell payload[ITEMS];
static unsigned taken;

static bool run_item(struct work *work)
{
	explore_check(explore_read(&payload[work - item]) == 7);
	taken++;
	return true;
}

static void make_queue(void)
{
	memset(&queue, 0, sizeof(queue));
	memset(item, 0, sizeof(item));
	for (unsigned i = 0; i < ITEMS; i++)
		item[i].run = run_item;
	taken = 0;
}

static unsigned run_all(void)
{
	struct work *work = work_queue_take_all(&queue);
	unsigned n = 0;

	while (work) {
		struct work *next = work->next;

		work->run(work);
		work = next;
		explore_check(++n <= ITEMS);
	}
	return n;
}

/* Two push, one takes until it has both. */
static void push_or_take(unsigned thread)
{
	if (thread < ITEMS) {
		explore_write(&payload[thread], 7);
		work_queue_push(&queue, &item[thread]);
		return;
	}
	while (taken < ITEMS) {
		uint32_t ticket = work_queue_ticket(&queue);

		if (!run_all())
			work_queue_sleep(&queue, ticket, OS_FOREVER);
	}
}

static void all_taken(void)
{
	explore_check(taken == ITEMS);
	explore_check(!work_queue_take_all(&queue));
}

static const struct explore_twin push_twins[] = {
	EXPLORE_TWIN("relaxed push", RELAX, "work_queue_push", "cas"),
	EXPLORE_TWIN("blind push", BLIND, "work_queue_push", "cas"),
	EXPLORE_TWIN("relaxed take", RELAX, "work_queue_take_all", "exchange"),
	EXPLORE_TWIN("take in two steps", SPLIT, "work_queue_take_all",
		     "exchange"),
	EXPLORE_TWIN("signal left out", SKIP, "work_queue_kick", "add"),
	{ .name = NULL },
};

/* One item is pushed, taken and pushed again, beside another push. */
static void push_again(unsigned thread)
{
	if (thread == 0) {
		explore_write(&payload[0], 7);
		work_queue_push(&queue, &item[0]);
		return;
	}
	explore_write(&payload[1], 7);
	work_queue_push(&queue, &item[1]);
	if (run_all() > 0) {
		explore_write(&payload[1], 7);
		work_queue_push(&queue, &item[1]);
	}
}

static void rest_is_there(void)
{
	unsigned before = taken;

	run_all();
	explore_check(taken == before + 1 || taken == before + 2);
	explore_check(!work_queue_take_all(&queue));
}

static const struct explore_twin again_twins[] = {
	EXPLORE_TWIN("push in two steps", BLIND, "work_queue_push", "cas"),
	{ .name = NULL },
};

const struct explore_scenario explore_work_queue[] = {
	{ .name = "work queue: push against take all and sleep",
	  .threads = 3, .setup = make_queue, .body = push_or_take,
	  .post = all_taken, .twins = push_twins },
	{ .name = "work queue: an item pushed again", .threads = 2,
	  .setup = make_queue, .body = push_again, .post = rest_is_there,
	  .twins = again_twins },
	{ .name = NULL },
};
