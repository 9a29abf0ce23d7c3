/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See budget_follow.h. */
#include "budget_follow.h"

#include <errno.h>

#include "budget.h"
#include "cgroup.h"
#include "keeper.h"
#include "os.h"

static const uint64_t LOOK_NS = 1000 * 1000 * 1000;
static const uint64_t SOON_NS = 100 * 1000 * 1000;

struct budget_follower {
	struct seg_budget *budget;
	struct cgroup *cgroup;
	unsigned percent;
	long process;			/* that has the thread */
	pthread_t thread;
	struct atomic_u32 kicks;
	struct atomic_u32 stop;
	struct atomic_u64 ceiling_bytes;
	struct atomic_u64 allowed_bytes;	/* by the group, of late */
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A limit of the group below one unit is one unit. */
static uint64_t target_of(struct budget_follower *f, uint64_t ceiling)
{
	/* relaxed: a number that the next look brings again */
	uint64_t allowed = u64_load_relaxed(&f->allowed_bytes);

	if (allowed == CGROUP_NO_LIMIT)
		return ceiling;
	allowed = allowed / 100 * f->percent + allowed % 100 * f->percent / 100;
	return least(ceiling, allowed < BUDGET_UNIT ? BUDGET_UNIT : allowed);
}

/* What is missing to the target; the ceiling and the limit that it makes
 * change together, while the keeper is held. */
static uint64_t lower(struct budget_follower *f)
{
	uint64_t target, limit;

	keeper_hold();
	/* relaxed: the hold orders those who change it */
	target = target_of(f, u64_load_relaxed(&f->ceiling_bytes));
	limit = budget_lower_limit(f->budget, target);
	keeper_let_go();
	target = target / BUDGET_UNIT * BUDGET_UNIT;
	return limit > target ? limit - target : 0;
}

static bool look(struct budget_follower *f)
{
	uint64_t missing;

	/* relaxed: a number that the next look brings again */
	u64_store_relaxed(&f->allowed_bytes, cgroup_limit(f->cgroup));
	missing = lower(f);
	if (missing) {
		budget_shrink(f->budget, missing);
		missing = lower(f);
	}
	budget_notify(f->budget);
	return missing == 0;
}

static void *follow(void *arg)
{
	struct budget_follower *f = arg;

	for (;;) {
		/* acquire, both <- budget_unfollow(), and whoever kicks */
		uint32_t ticket = u32_load_acquire(&f->kicks);

		if (u32_load_acquire(&f->stop))
			break;
		os_futex_wait(&f->kicks, ticket, look(f) ? LOOK_NS : SOON_NS);
	}
	return NULL;
}

int budget_follow(struct seg_budget *b, const char *root, unsigned percent)
{
	struct budget_follower *f = os_calloc(1, sizeof(*f));
	int ret;

	if (!f)
		return -ENOMEM;
	ret = cgroup_open(root, &f->cgroup);
	if (ret) {
		os_free(f);
		return ret == -ENOENT ? 0 : ret;
	}
	f->budget = b;
	f->percent = percent;
	f->process = os_process_id();
	/* relaxed: no thread yet */
	u64_store_relaxed(&f->ceiling_bytes, budget_word_limit(budget_look(b)));
	look(f);
	ret = os_thread_start(&f->thread, follow, f);
	if (ret) {
		cgroup_close(f->cgroup);
		os_free(f);
		return -EAGAIN;
	}
	b->follower = f;
	return 0;
}

void budget_follow_kick(struct seg_budget *b)
{
	/* seq_cst: release -> follow() */
	u32_add_seq_cst(&b->follower->kicks, 1);
	os_futex_wake_all(&b->follower->kicks);
}

void budget_unfollow(struct seg_budget *b)
{
	struct budget_follower *f = b->follower;

	if (!f)
		return;
	u32_store_release(&f->stop, 1); /* release -> follow() */
	budget_follow_kick(b);
	if (f->process == os_process_id())
		os_thread_join(f->thread);
	cgroup_close(f->cgroup);
	os_free(f);
	b->follower = NULL;
}

int budget_follow_ceiling(struct seg_budget *b, uint64_t limit_bytes)
{
	struct budget_follower *f = b->follower;
	bool done;

	keeper_hold();
	done = budget_try_limit(b, least(limit_bytes,
					 budget_word_limit(budget_look(b))));
	if (done) {	/* so no more than the ceiling is charged */
		/* relaxed: as lower() */
		u64_store_relaxed(&f->ceiling_bytes, limit_bytes);
		budget_lower_limit(b, target_of(f, limit_bytes));
	}
	keeper_let_go();
	if (done)
		budget_follow_kick(b);
	return done ? 0 : -EBUSY;
}

uint64_t budget_followed(struct seg_budget *b)
{
	uint64_t allowed;

	if (!b->follower)
		return 0;
	/* relaxed: a number */
	allowed = u64_load_relaxed(&b->follower->allowed_bytes);
	return allowed == CGROUP_NO_LIMIT ? 0 : allowed;
}
