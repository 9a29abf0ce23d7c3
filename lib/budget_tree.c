/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who shares a budget, and who gives back when it is full: the pools and the
 * reclaimers of a budget, and its children with theirs.  The lists are changed
 * while the keeper is held (a lock that a fork respects) and walked under RCU.
 *
 * Who is asked: what is missing is missing at one budget, the lowest on the way
 * to the root that has no room.  Its own pools and caches come first, since no
 * share of it is theirs.  Then those of its children that hold more of what is
 * borrowed than their share, the wish of the child that asks counted in; who
 * asks from outside of the children gets what was borrowed back.  Memory that
 * nobody uses (idle regions, unused slices) is taken from the others, too.
 * Of no child more is asked than it borrows: its guarantee is paid for, and
 * would help nobody but itself; so who asks is asked for all that it has.  A
 * child passes on what it is asked for in the same way; what it gives beyond
 * what it borrows stays with it.  A pool is asked for unused memory twice at
 * most: for what is beyond the shares on the way to it, then whatever they are.
 *
 * Guarantee: (T1) a budget that is being asked is not freed.  Reclaimers run in
 * no read section, so who asks a child's counts itself in on `visits` first,
 * while it reads the list, and fails to if the child is leaving; destroying it
 * waits for the calls that run: one word, so one comes first.  It says in which
 * process they run, too: in the child of a fork those of the parent's threads
 * are over, and who comes first there counts from none.  A budget counts a
 * child until that has touched it for the last time, so it outlives it.
 *
 * Lock-free but for what reclaimers do; join, leave and await block.
 */
#include "budget.h"
#include "keeper.h"
#include "os.h"
#include "rcu.h"

/* visits: | process (its last bits) | visits | leaving | */
enum {
	LEAVING = 1,
	VISIT = 2,
	VISITS_BITS = 20,
	VISITS_MASK = (1 << VISITS_BITS) - 1,
	ASKED_MOST = 16,	/* children at a time, by one that asks */
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- the lists ---- */

void budget_join(struct seg_budget *b, struct budget_member *member)
{
	keeper_hold();
	/* relaxed: the hold orders writers; not yet published */
	ptr_store_relaxed(&member->next, ptr_load_relaxed(&b->members));
	/* release -> ask_members() */
	ptr_store_release(&b->members, member);
	u64_add_relaxed(&b->member_count, 1); /* relaxed: counter */
	keeper_let_go();
}

void budget_leave(struct seg_budget *b, struct budget_member *member)
{
	struct atomic_ptr *at = &b->members;
	struct budget_member *m;

	keeper_hold();
	/* relaxed: the hold orders writers */
	while ((m = ptr_load_relaxed(at)) != member)
		at = &m->next;
	/* release -> ask_members(): what stands behind was published before */
	ptr_store_release(at, ptr_load_relaxed(&member->next));
	u64_sub_relaxed(&b->member_count, 1); /* relaxed: counter */
	keeper_let_go();
	rcu_wait_for_readers();
}

void budget_link_child(struct seg_budget *child)
{
	struct seg_budget *b = child->parent;

	/* relaxed: the hold orders writers; not yet published */
	ptr_store_relaxed(&child->next, ptr_load_relaxed(&b->children));
	/* release -> first_child() */
	ptr_store_release(&b->children, child);
	u64_add_relaxed(&b->child_count, 1); /* relaxed: counter */
}

void budget_unlink_child(struct seg_budget *child)
{
	struct atomic_ptr *at = &child->parent->children;
	struct seg_budget *c;

	/* relaxed: the hold orders writers */
	while ((c = ptr_load_relaxed(at)) != child)
		at = &c->next;
	/* release -> next_child(): what stands behind was published before */
	ptr_store_release(at, ptr_load_relaxed(&child->next));
}

void budget_forget_child(struct seg_budget *parent)
{
	u64_sub_relaxed(&parent->child_count, 1); /* relaxed: counter */
}

static struct seg_budget *first_child(struct seg_budget *b)
{
	return ptr_load_acquire(&b->children); /* acquire: of the link */
}

static struct seg_budget *next_child(struct seg_budget *child)
{
	return ptr_load_acquire(&child->next); /* acquire: of the link */
}

void budget_each_child(struct seg_budget *b,
		       void (*fn)(void *ctx, struct seg_budget *child),
		       void *ctx)
{
	rcu_enter();
	for (struct seg_budget *c = first_child(b); c; c = next_child(c))
		fn(ctx, c);
	rcu_leave();
}

/* ---- visits (T1) ---- */

static uint32_t process_bits(void)
{
	return (uint32_t)keeper_process() << VISITS_BITS;
}

/* As it is in this process. */
static uint32_t visits_here(uint32_t word)
{
	uint32_t here = process_bits();

	return (word & ~(uint32_t)VISITS_MASK) == here ? word : here;
}

static bool visit_begin(struct seg_budget *b)
{
	uint32_t old = u32_load_relaxed(&b->visits); /* relaxed: compared */
	uint32_t word;

	do {
		word = visits_here(old);
		if (word & LEAVING)
			return false;
		/* acquire <- budget_link_child(), through the list; retries
		 * when another visit began or ended */
	} while (!u32_cas_weak_acquire(&b->visits, &old, word + VISIT));
	return true;
}

/* One that began before a fork is over in the child of it already. */
static void visit_end(struct seg_budget *b, uint32_t process)
{
	if (process != process_bits())
		return;
	/* seq_cst: release -> budget_await_visits() */
	if (u32_sub_seq_cst(&b->visits, VISIT) == (process | VISIT | LEAVING))
		os_futex_wake_all(&b->visits);
}

void budget_await_visits(struct seg_budget *child)
{
	uint32_t old = u32_load_relaxed(&child->visits); /* relaxed: compared */
	uint32_t word;

	do {
		word = visits_here(old) | LEAVING;
		/* seq_cst: no visit begins after it; retries when one began
		 * or ended */
	} while (!u32_cas_weak_seq_cst(&child->visits, &old, word));
	while (word != (process_bits() | LEAVING)) {
		os_futex_wait(&child->visits, word, OS_FOREVER);
		/* acquire <- visit_end() */
		word = u32_load_acquire(&child->visits);
	}
	rcu_wait_for_readers();
}

/* ---- who has what ---- */

/* relaxed, all here: hints about who is to be asked, and statistics */
uint64_t budget_guaranteed(struct seg_budget *b)
{
	return budget_word_limit(u64_load_relaxed(&b->reserve));
}

uint64_t budget_borrowed(struct seg_budget *b)
{
	uint64_t word = u64_load_relaxed(&b->word); /* relaxed: see above */

	return b->parent ? budget_word_charged(word) : 0;
}

static uint64_t own_coming(struct seg_budget *b, bool with_stuck)
{
	/* relaxed, both: counters */
	uint64_t deferred = u64_load_relaxed(&b->deferred_bytes);
	uint64_t stuck = with_stuck ? 0 : u64_load_relaxed(&b->stuck_bytes);

	return deferred > stuck ? deferred - stuck : 0;
}

/* What will be free at b, whose children give what they have borrowed; but for
 * one of them. */
static uint64_t coming_below(struct seg_budget *b, const struct seg_budget *but,
			     bool with_stuck)
{
	uint64_t bytes = own_coming(b, with_stuck);

	for (struct seg_budget *c = first_child(b); c; c = next_child(c)) {
		uint64_t borrowed = c == but ? 0 : budget_borrowed(c);

		if (borrowed)
			bytes += least(borrowed,
				       coming_below(c, NULL, with_stuck));
	}
	return bytes;
}

static uint64_t all_deferred(struct seg_budget *b)
{
	uint64_t bytes = own_coming(b, true);

	for (struct seg_budget *c = first_child(b); c; c = next_child(c))
		bytes += all_deferred(c);
	return bytes;
}

uint64_t budget_deferred_below(struct seg_budget *b)
{
	uint64_t bytes;

	rcu_enter();
	bytes = all_deferred(b);
	rcu_leave();
	return bytes;
}

/* The lowest budget where no byte more could be charged than there is room. */
static struct seg_budget *full_at(struct seg_budget *b)
{
	while (b->parent) {
		/* relaxed: a hint */
		uint64_t word = u64_load_relaxed(&b->word);

		if (budget_word_room(word) <= budget_room(b->parent))
			break;
		b = b->parent;
	}
	return b;
}

/* What is below the budget itself comes to it in any case: as room of its
 * guarantee, if it is not borrowed. */
static uint64_t coming_to(struct seg_budget *b, bool with_stuck)
{
	struct seg_budget *full, *below = NULL;
	uint64_t bytes = 0;

	rcu_enter();
	full = full_at(b);
	for (;;) {
		bytes += coming_below(b, below, with_stuck);
		if (b == full)
			break;
		below = b;
		b = b->parent;
	}
	rcu_leave();
	return bytes;
}

uint64_t budget_deferred(struct seg_budget *b)
{
	return coming_to(b, true);
}

uint64_t budget_coming(struct seg_budget *b)
{
	return coming_to(b, false);
}

/* Whether the budget is the child, or below it. */
static bool is_below(const struct seg_budget *b, const struct seg_budget *child)
{
	while (b && b != child)
		b = b->parent;
	return b != NULL;
}

/* Whose wish it is, and who is left out if it is for a child's guarantee: what
 * the child borrows becomes that anyway. */
struct wisher {
	struct seg_budget *asker;	/* NULL: nobody in the tree */
	const struct seg_budget *spared;	/* or NULL */
};

static const struct wisher nobody;

/*
 * What the children of one budget hold together, with the wish of one of them;
 * or, if the wish comes from elsewhere, what they will hold without it.
 */
struct sums {
	const struct wisher *who;
	uint64_t wish;
	uint64_t borrowed, shares;
};

static uint64_t held(const struct sums *s, struct seg_budget *child)
{
	return budget_borrowed(child) +
	       (is_below(s->who->asker, child) ? s->wish : 0);
}

static uint32_t share_of(struct seg_budget *child)
{
	return u32_load_relaxed(&child->share); /* relaxed: a number */
}

static struct sums sum_up(struct seg_budget *b, const struct wisher *who,
			  uint64_t wish)
{
	struct sums s = { .who = who, .wish = wish };

	for (struct seg_budget *c = first_child(b); c; c = next_child(c)) {
		uint64_t bytes = c == who->spared ? 0 : held(&s, c);

		s.borrowed += bytes;
		s.shares += bytes ? share_of(c) : 0;
	}
	if (who->asker == b || !is_below(who->asker, b))
		s.borrowed -= least(s.borrowed, wish);
	return s;
}

/* In units, so that the product has 32 bits and 14. */
static uint64_t beyond_share(const struct sums *s, struct seg_budget *child)
{
	uint64_t bytes = held(s, child);
	uint64_t fair;

	if (!s->shares || child == s->who->spared)
		return 0;
	fair = budget_units(s->borrowed) * share_of(child) / s->shares *
	       BUDGET_UNIT;
	return bytes > fair ? least(bytes - fair, budget_borrowed(child)) : 0;
}

/* ---- memory that nobody uses ---- */

typedef uint64_t ask_fn(struct budget_member *m, uint64_t bytes);

static uint64_t ask_to_shed(struct budget_member *m, uint64_t bytes)
{
	return m->shed(m, bytes);
}

static uint64_t ask_to_decommit(struct budget_member *m, uint64_t bytes)
{
	return m->decommit ? m->decommit(m, bytes) : 0;
}

static uint64_t ask_members(struct seg_budget *b, uint64_t bytes, ask_fn *ask)
{
	struct budget_member *m;
	uint64_t given = 0;

	/* acquire <- budget_join() */
	for (m = ptr_load_acquire(&b->members); m && given < bytes;
	     m = ptr_load_acquire(&m->next)) /* acquire <- budget_join() */
		given += ask(m, bytes - given);
	return given;
}

/* What a child could still give: what is coming is on its way already. */
static uint64_t can_give(struct seg_budget *child, const struct wisher *who)
{
	uint64_t borrowed = budget_borrowed(child);

	if (child == who->spared)
		return 0;
	return borrowed - least(borrowed, coming_below(child, NULL, true));
}

struct question {
	const struct wisher *who;
	ask_fn *ask;
	bool beyond;			/* only for what is beyond a share */
};

static uint64_t ask_children(const struct question *q, struct seg_budget *b,
			     const struct seg_budget *but, uint64_t bytes);

static uint64_t ask_below(const struct question *q, struct seg_budget *b,
			  uint64_t bytes)
{
	uint64_t given = ask_members(b, bytes, q->ask);

	if (given < bytes)
		given += ask_children(q, b, NULL, bytes - given);
	return given;
}

/* A child may give more than it was asked for, by whole slices and regions:
 * what it borrows of that comes here. */
static uint64_t ask_children(const struct question *q, struct seg_budget *b,
			     const struct seg_budget *but, uint64_t bytes)
{
	struct sums s = sum_up(b, q->who, bytes);
	uint64_t given = 0;

	for (struct seg_budget *c = first_child(b); c && given < bytes;
	     c = next_child(c)) {
		uint64_t most = q->beyond ? beyond_share(&s, c) :
					    budget_borrowed(c);
		uint64_t can = most && c != but ? can_give(c, q->who) : 0;

		most = least(least(most, can), bytes - given);
		if (most)
			given += least(can, ask_below(q, c, most));
	}
	return given;
}

/* All but one child, which has been asked. */
static uint64_t ask_at(struct seg_budget *b, const struct seg_budget *but,
		       const struct wisher *who, uint64_t bytes, ask_fn *ask)
{
	struct question q = { .who = who, .ask = ask };
	uint64_t given = ask_members(b, bytes, ask);

	for (int pass = 0; pass < 2 && given < bytes; pass++) {
		q.beyond = pass == 0;
		given += ask_children(&q, b, but, bytes - given);
	}
	return given;
}

/* First those on the way up, whose guarantees get room by what they give. */
static uint64_t ask_tree(struct seg_budget *b, const struct seg_budget *spared,
			 uint64_t bytes, ask_fn *ask)
{
	const struct wisher who = { .asker = b, .spared = spared };
	struct seg_budget *but = NULL, *full;
	uint64_t given = 0;

	rcu_enter();
	full = full_at(b);
	for (;;) {
		given += ask_at(b, but, &who, bytes - given, ask);
		if (b == full || given >= bytes)
			break;
		but = b;
		b = b->parent;
	}
	rcu_leave();
	return given;
}

uint64_t budget_shed(struct seg_budget *b, uint64_t bytes)
{
	return ask_tree(b, NULL, bytes, ask_to_shed);
}

uint64_t budget_decommit(struct seg_budget *b, uint64_t bytes)
{
	return ask_tree(b, NULL, bytes, ask_to_decommit);
}

/* ---- memory that reclaimers hold ---- */

/* A child and how far it is beyond its share, in bytes. */
struct rank {
	struct seg_budget *child;
	uint64_t beyond;
};

/* The furthest first; among equals any order, but one. */
static bool is_before(struct rank a, struct rank b)
{
	return a.beyond != b.beyond ? a.beyond > b.beyond :
				      (uintptr_t)a.child < (uintptr_t)b.child;
}

struct asked {
	uint32_t process;		/* that the visits began in */
	unsigned count;
	struct rank of[ASKED_MOST];	/* in that order */
};

static void asked_insert(struct asked *a, struct rank r)
{
	unsigned at = a->count;

	if (at == ASKED_MOST) {
		if (!is_before(r, a->of[--at]))
			return;
		visit_end(a->of[at].child, a->process);
	}
	if (!visit_begin(r.child)) {
		a->count = at;
		return;
	}
	for (a->count = at + 1; at && is_before(r, a->of[at - 1]); at--)
		a->of[at] = a->of[at - 1];
	a->of[at] = r;
}

/* With visits begun, as many as are asked at a time, behind the last one of
 * before (no child: from the first on). */
static void choose(struct seg_budget *b, const struct wisher *who,
		   uint64_t bytes, struct rank last, struct asked *ret_asked)
{
	struct sums s;

	ret_asked->count = 0;
	ret_asked->process = process_bits();
	rcu_enter();
	s = sum_up(b, who, bytes);
	for (struct seg_budget *c = first_child(b); c; c = next_child(c)) {
		struct rank r = { c, beyond_share(&s, c) };

		if (r.beyond && (!last.child || is_before(last, r)))
			asked_insert(ret_asked, r);
	}
	rcu_leave();
}

static uint64_t reclaim_below(struct seg_budget *b, const struct wisher *who,
			      uint64_t bytes, enum reclaim_whom whom);

/* Ends the visits. */
static uint64_t ask_chosen(const struct asked *asked, const struct wisher *who,
			   uint64_t bytes, enum reclaim_whom whom)
{
	uint64_t given = 0;

	for (unsigned i = 0; i < asked->count; i++) {
		struct seg_budget *child = asked->of[i].child;
		uint64_t can = budget_borrowed(child);
		uint64_t most = given < bytes ? least(asked->of[i].beyond,
						      bytes - given) : 0;

		if (most)
			given += least(can, reclaim_below(child, who, most,
							  whom));
		visit_end(child, asked->process);
	}
	return given;
}

static uint64_t reclaim_below(struct seg_budget *b, const struct wisher *who,
			      uint64_t bytes, enum reclaim_whom whom)
{
	uint64_t given = reclaim_ask(&b->reclaimers, bytes, whom);
	struct rank last = { NULL, 0 };
	struct asked asked;

	do {
		if (given >= bytes)
			break;
		choose(b, who, bytes - given, last, &asked);
		given += ask_chosen(&asked, who, bytes - given, whom);
		/* Only compared: it may be gone by now. */
		if (asked.count)
			last = asked.of[asked.count - 1];
	} while (asked.count == ASKED_MOST);
	return given;
}

/* Those on the way from the asker come last, whatever they hold. */
static uint64_t reclaim_tree(struct seg_budget *b,
			     const struct seg_budget *spared, uint64_t bytes,
			     enum reclaim_whom whom)
{
	const struct wisher who = { .asker = b, .spared = spared };
	struct seg_budget *full = full_at(b);
	uint64_t given = reclaim_below(full, &who, bytes, whom);

	for (; b != full && given < bytes; b = b->parent)
		given += reclaim_below(b, &who, bytes - given, whom);
	return given;
}

uint64_t budget_reclaim(struct seg_budget *b, uint64_t bytes,
			enum reclaim_whom whom)
{
	return reclaim_tree(b, NULL, bytes, whom);
}

/* What is missing may be on its way only: then it is too late for the call. */
void budget_give_unused(struct seg_budget *child, uint64_t bytes)
{
	uint64_t given = ask_tree(child->parent, child, bytes,
				  ask_to_decommit);

	if (given < bytes)
		ask_tree(child->parent, child, bytes - given, ask_to_shed);
}

void budget_give_reclaimed(struct seg_budget *child, uint64_t bytes)
{
	uint64_t given = reclaim_tree(child->parent, child, bytes,
				      RECLAIM_WILLING);

	if (given < bytes)
		given += reclaim_tree(child->parent, child, bytes - given,
				      RECLAIM_RESTING);
	if (given)
		ask_tree(child->parent, child, bytes, ask_to_decommit);
}

/* ---- who is listed ---- */

static void list_below(struct seg_budget *b, const struct seg_budget *but,
		       struct seg_refusal *refusal)
{
	struct asked borrowers = { .process = process_bits() };

	rcu_enter();
	for (struct seg_budget *c = first_child(b); c; c = next_child(c)) {
		uint64_t borrowed = is_below(but, c) ? 0 : budget_borrowed(c);

		if (borrowed)
			asked_insert(&borrowers,
				     (struct rank){ c, borrowed });
	}
	rcu_leave();
	for (unsigned i = 0; i < borrowers.count; i++) {
		struct seg_budget *child = borrowers.of[i].child;

		reclaim_list(&child->reclaimers, refusal);
		list_below(child, but, refusal);
		visit_end(child, borrowers.process);
	}
}

void budget_list_borrowers(struct seg_budget *b, struct seg_refusal *refusal)
{
	const struct seg_budget *but = b, *full = full_at(b);

	for (; b != full; b = b->parent)
		list_below(b, but, refusal);
	list_below(b, but, refusal);
}

/* ---- lowering a limit ---- */

static uint64_t unused_below(struct seg_budget *b, uint64_t bytes)
{
	uint64_t given;

	rcu_enter();
	given = ask_at(b, NULL, &nobody, bytes, ask_to_decommit);
	if (given < bytes)
		given += ask_at(b, NULL, &nobody, bytes - given, ask_to_shed);
	rcu_leave();
	return given;
}

void budget_shrink(struct seg_budget *b, uint64_t bytes)
{
	uint64_t given = unused_below(b, bytes);

	if (given < bytes &&
	    reclaim_below(b, &nobody, bytes - given, RECLAIM_WILLING))
		given += unused_below(b, bytes - given);
	if (given < bytes &&
	    reclaim_below(b, &nobody, bytes - given, RECLAIM_RESTING))
		unused_below(b, bytes - given);
}
