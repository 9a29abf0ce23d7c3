/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lib/keeper.c in the explorer: its work, done by a thread that says so. */
#include "keeper.h"

#include <string.h>

#include "engine.h"
#include "explore_rcu.h"
#include "os.h"
#include "publish.h"

static struct work_queue queue;
static struct atomic_u32 finished;	/* who needs no keeper any more */
static bool held;
static struct clock let_go;		/* what came before it was let go */

void keeper_reset(void)
{
	memset(&queue, 0, sizeof(queue));
	memset(&finished, 0, sizeof(finished));
	memset(&let_go, 0, sizeof(let_go));
	held = false;
}

int keeper_join(struct keeper_duty *duty)
{
	(void)duty;
	return 0;
}

void keeper_leave(struct keeper_duty *duty)
{
	(void)duty;
}

void keeper_defer(struct work *work)
{
	work_queue_push(&queue, work);
}

void keeper_kick(void)
{
}

static bool is_let_go(void *argument)
{
	(void)argument;
	return !held;
}

/* There is the thread. */
bool keeper_help(void)
{
	return false;
}

/* Nothing that the scenarios do hangs on it, and nobody forks. */
bool keeper_at_work(void)
{
	return false;
}

uint64_t keeper_process(void)
{
	return 0;
}

/* Nobody looks at what objects publish, either. */
uint64_t os_process_namespace(void)
{
	return 0;
}

void publish_set_name(struct publish_item *item, const char *name,
		      const char *usual)
{
	(void)item;
	(void)name;
	(void)usual;
}

void publish_add(struct publish_item *item)
{
	(void)item;
}

void publish_remove(struct publish_item *item)
{
	(void)item;
}

void keeper_hold(void)
{
	if (!engine.running)
		return;
	engine_point();
	explore_wait(is_let_go, NULL, "waits for the keeper");
	held = true;
	clock_join(&engine_self()->now, &let_go);
}

void keeper_let_go(void)
{
	if (!engine.running)
		return;
	engine_point();
	clock_join(&let_go, &engine_self()->now);
	held = false;
}

/* As keeper.c: all that is there after one grace period. */
static bool run(void)
{
	struct work *work = work_queue_take_all(&queue);

	if (!work)
		return false;
	rcu_wait_for_readers();
	while (work) {
		struct work *next = work->next;

		explore_check(work->run(work));
		work = next;
	}
	return true;
}

bool explore_keeper_run(void)
{
	bool ran;

	keeper_hold();
	ran = run();
	keeper_let_go();
	return ran;
}

void keeper_flush(void)
{
	while (explore_keeper_run())
		;
}

void explore_keeper(uint32_t others)
{
	for (;;) {
		uint32_t ticket = work_queue_ticket(&queue);

		if (explore_keeper_run())
			continue;
		/* relaxed: the kick that follows is seen with the ticket */
		if (u32_load_relaxed(&finished) == others)
			return;
		work_queue_sleep(&queue, ticket, OS_FOREVER);
	}
}

void explore_finish(void)
{
	u32_add_relaxed(&finished, 1); /* relaxed: before the kick */
	work_queue_kick(&queue);
}
