/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The application's reclaimers of a budget; see reclaim.h. */
#include <errno.h>
#include <string.h>

#include "budget.h"
#include "keeper.h"
#include "options.h"
#include "os.h"
#include "rcu.h"
#include "seg.h"

enum { PRIORITY_MOST = 1000 };

struct app_reclaimer {
	struct reclaimer reclaimer;	/* first */
	seg_reclaim_fn *fn;
	void *ctx;
	bool leaves;			/* while the keeper is held */
	char name[sizeof(((struct seg_reclaimer_info *)0)->name)];
};

static uint64_t give(struct reclaimer *r, uint64_t bytes)
{
	struct app_reclaimer *a = (struct app_reclaimer *)r;

	return a->fn(a->ctx, bytes);
}

static bool is_app(const struct reclaimer *r, seg_reclaim_fn *fn, void *ctx)
{
	const struct app_reclaimer *a = (const struct app_reclaimer *)r;

	return r->give == give && a->fn == fn && a->ctx == ctx && !a->leaves;
}

/* While the keeper is held. */
static struct app_reclaimer *find(struct reclaimers *all, seg_reclaim_fn *fn,
				  void *ctx)
{
	struct reclaimer *r;

	/* relaxed, both: the hold orders writers */
	for (r = ptr_load_relaxed(&all->first); r && !is_app(r, fn, ctx);
	     r = ptr_load_relaxed(&r->next))
		;
	return (struct app_reclaimer *)r;
}

static int options_check(const struct seg_reclaimer_options *o)
{
	if (!o->fn || (o->name && strlen(o->name) >= sizeof(((
					struct app_reclaimer *)0)->name)))
		return -EINVAL;
	return o->priority < -PRIORITY_MOST || o->priority > PRIORITY_MOST ?
		       -ERANGE : 0;
}

static struct app_reclaimer *make(const struct seg_reclaimer_options *o)
{
	struct app_reclaimer *a = os_calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->fn = o->fn;
	a->ctx = o->ctx;
	if (o->name)
		strcpy(a->name, o->name);
	a->reclaimer.give = give;
	a->reclaimer.added = true;
	a->reclaimer.priority = o->priority;
	a->reclaimer.name = a->name;
	return a;
}

int seg_budget_add_reclaimer(struct seg_budget *b,
			     const struct seg_reclaimer_options *options)
{
	struct seg_reclaimer_options o = { 0 };
	struct app_reclaimer *a;
	bool found;
	int ret;

	if (!b || !options_get(&o, sizeof(o), options, sizeof(o)))
		return -EINVAL;
	ret = options_check(&o);
	if (ret)
		return ret;
	if (!reclaim_may_ask())
		return -EDEADLK;
	a = make(&o);
	if (!a)
		return -ENOMEM;
	keeper_hold();
	found = find(&b->reclaimers, o.fn, o.ctx) != NULL;
	if (!found)
		reclaim_link(&b->reclaimers, &a->reclaimer);
	keeper_let_go();
	if (!found)
		return 0;
	os_free(a);
	return -EEXIST;
}

int seg_budget_remove_reclaimer(struct seg_budget *b, seg_reclaim_fn *fn,
				void *ctx)
{
	struct app_reclaimer *a;

	if (!b || !fn)
		return -EINVAL;
	if (!reclaim_may_ask() || rcu_inside())
		return -EDEADLK;
	keeper_hold();
	a = find(&b->reclaimers, fn, ctx);
	if (a)
		a->leaves = true;
	keeper_let_go();
	if (!a)
		return -ENOENT;
	reclaim_leave(&b->reclaimers, &a->reclaimer);
	os_free(a);
	return 0;
}
