/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sections, by what can be done with them: taking what its owner uses, claiming
 * a word that its owner changes by a plain store, and sleeping until its owner
 * has put something there.  Thread 0 is the owner.
 */
#include "explore.h"

#include <string.h>

#include "os.h"
#include "section.h"

enum { ROUNDS = 2 };

static struct section section;
static struct atomic_u32 taken;
static struct explore_cell stock;	/* the owner's, or who took it has it */
static uint64_t expected;		/* of it in the end */

/* Of twins. */
static bool early;	/* the barrier is before what it should order */
static bool deaf;	/* its refusal is not looked at */
static bool tardy;	/* the owner changes its word after leaving */
static bool hasty;	/* it looks at waiters before leaving */
static bool mute;	/* it does not after its last section */
static bool late;	/* a waiter counts itself in after its look */
static bool rude;	/* who gives back what it took wakes nobody */

static void throw_early(bool on)
{
	early = on;
}

static void throw_deaf(bool on)
{
	deaf = on;
}

static void throw_hasty(bool on)
{
	hasty = on;
}

static void throw_tardy(bool on)
{
	tardy = on;
}

static void throw_late(bool on)
{
	late = on;
}

static void throw_mute(bool on)
{
	mute = on;
}

static void throw_rude(bool on)
{
	rude = on;
}

static void begin(void)
{
	memset(&section, 0, sizeof(section));
	memset(&taken, 0, sizeof(taken));
	expected = 0;
}

static void add_to_stock(void)
{
	explore_write(&stock, explore_read(&stock) + 1);
	expected++;
}

static void all_is_there(void)
{
	explore_check(explore_read(&stock) == expected);
	explore_check(section_is_left(&section));
}

/* ---- taking ---- */

static void use_own(void)
{
	section_enter(&section);
	/* acquire <- take() */
	if (!u32_load_acquire(&taken))
		add_to_stock();
	section_leave(&section);
}

static bool is_mine(void)
{
	bool ordered = early || sections_barrier() || deaf;

	return ordered && section_is_left(&section);
}

static void take(void)
{
	uint32_t old = 0;

	if (early)
		sections_barrier();
	/* acquire <- take() of another */
	if (!u32_cas_strong_acquire(&taken, &old, 1))
		return;
	if (is_mine())
		add_to_stock();
	/* release -> use_own(), take() */
	u32_store_release(&taken, 0);
}

static void use_or_take(unsigned thread)
{
	if (thread) {
		take();
		return;
	}
	for (int i = 0; i < ROUNDS; i++)
		use_own();
}

static void begin_refused(void)
{
	begin();
	explore_barriers_left = 0;
}

static const struct explore_twin take_twins[] = {
	EXPLORE_TWIN("taken for nothing", BLIND, "take", "cas"),
	EXPLORE_TWIN("taken: relaxed exchange", RELAX, "take", "cas"),
	EXPLORE_TWIN("given back: relaxed store", RELAX, "take", "store"),
	EXPLORE_TWIN("taken: relaxed look", RELAX, "use_own", "load"),
	EXPLORE_TWIN("taken: no look", SKIP, "use_own", "load"),
	EXPLORE_TWIN("relaxed leave", RELAX, "section_leave", NULL),
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	EXPLORE_TWIN_SWITCH("a barrier too early", throw_early),
	EXPLORE_TWIN("no look at the section", SKIP, "section_is_left", "load"),
	EXPLORE_TWIN("relaxed look at the section", RELAX, "section_is_left",
		     "load"),
	EXPLORE_TWIN("not entered", SKIP, "section_enter", "store"),
	{ .name = NULL },
};

static const struct explore_twin take_refused_twins[] = {
	EXPLORE_TWIN_SWITCH("refusal not looked at", throw_deaf),
	{ .name = NULL },
};

/* ---- claiming ---- */

enum { OUT = 1, CLAIMED = 1u << 31 };

static struct atomic_u32 word;		/* the owner's; odd: out */
static struct explore_cell thing;	/* of who has won */
static unsigned winners;

static void begin_claim(void)
{
	begin();
	u32_store_relaxed(&word, OUT);
	winners = 0;
}

static bool is_out(uint32_t w)
{
	return (w & OUT) && !(w & CLAIMED);
}

static void win(unsigned thread)
{
	explore_write(&thing, thread);
	winners++;
}

/* The owner's, by a plain store. */
static void change_own(void)
{
	bool won;

	section_enter(&section);
	/* relaxed: section_leave() passes it on, with the thing */
	won = is_out(u32_load_relaxed(&word));
	if (won && !tardy)
		u32_store_relaxed(&word, OUT + 1);
	if (won)
		win(0);
	section_leave(&section);
	if (won && tardy)
		u32_store_relaxed(&word, OUT + 1);
}

static void claim(unsigned thread)
{
	/* relaxed: compared, and then section_is_left() acquires */
	uint32_t old = u32_load_relaxed(&word);

	if (!is_out(old) ||
	    !u32_cas_strong_relaxed(&word, &old, old | CLAIMED))
		return;
	sections_barrier();
	while (!section_is_left(&section))
		explore_yield();
	if (u32_load_relaxed(&word) & CLAIMED)
		win(thread);
	else
		explore_check(explore_read(&thing) == 0);
}

static void change_or_claim(unsigned thread)
{
	if (thread)
		claim(thread);
	else
		change_own();
}

static void one_has_won(void)
{
	explore_check(winners == 1);
	explore_check(section_is_left(&section));
}

static const struct explore_twin claim_twins[] = {
	EXPLORE_TWIN("claimed for nothing", BLIND, "claim", "cas"),
	EXPLORE_TWIN("claim in two steps", SPLIT, "claim", "cas"),
	EXPLORE_TWIN("relaxed leave", RELAX, "section_leave", NULL),
	EXPLORE_TWIN_SWITCH("changed after leaving", throw_tardy),
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	EXPLORE_TWIN("no look at the section", SKIP, "section_is_left", "load"),
	EXPLORE_TWIN("relaxed look at the section", RELAX, "section_is_left",
		     "load"),
	{ .name = NULL },
};

/* ---- waking ---- */

static struct atomic_u32 waiters, wakes;
static struct atomic_u32 beside;	/* what was put while it was taken */

static void begin_wait(void)
{
	begin();
	memset(&waiters, 0, sizeof(waiters));
	memset(&wakes, 0, sizeof(wakes));
	memset(&beside, 0, sizeof(beside));
}

static bool anybody_waits(void)
{
	/* relaxed: ordered by sections_barrier() */
	return u32_load_relaxed(&waiters);
}

static void wake(void)
{
	/* seq_cst: not what is looked at here */
	u32_add_seq_cst(&wakes, 1);
	os_futex_wake_all(&wakes);
}

/* Whom it has been taken from puts the thing where all can see it. */
static void put_beside(void)
{
	/* seq_cst: before the waiters are looked at, as get_beside() */
	u32_store_seq_cst(&beside, 1);
	if (u32_load_seq_cst(&waiters))
		wake();
}

static bool get_beside(void)
{
	return u32_load_seq_cst(&beside);
}

static void put_own(void)
{
	bool mine, awaited;

	section_enter(&section);
	/* acquire <- look_into() */
	mine = !u32_load_acquire(&taken);
	if (mine)
		explore_write(&stock, 1);
	awaited = hasty && anybody_waits();
	section_leave(&section);
	if (!mine)
		put_beside();
	else if (hasty ? awaited : anybody_waits())
		wake();
}

/* Whether it has found it; not, maybe, while the owner is inside. */
static bool look_into(void)
{
	uint32_t old = 0;
	bool found = false;

	/* seq_cst: after the waiter has counted itself in, see take_beside() */
	if (!u32_cas_strong_seq_cst(&taken, &old, 1))
		return false;
	sections_barrier();
	if (section_is_left(&section))
		found = explore_read(&stock);
	/* seq_cst: release -> put_own(); before the look of take_beside() */
	u32_store_seq_cst(&taken, 0);
	return found;
}

static void wait_for_it(void)
{
	uint32_t seen;

	if (!late)
		u32_add_seq_cst(&waiters, 1);
	for (;;) {
		seen = u32_load_seq_cst(&wakes);
		if (look_into() || get_beside())
			return;
		if (late)
			u32_add_seq_cst(&waiters, 1);
		os_futex_wait(&wakes, seen, OS_FOREVER);
	}
}

/* A section that puts nothing there hides what is, from who does not wait. */
static void put_or_wait(unsigned thread)
{
	if (thread) {
		wait_for_it();
		return;
	}
	put_own();
	section_enter(&section);
	section_leave(&section);
	if (!mute && anybody_waits())
		wake();
}

static void put_once(unsigned thread)
{
	if (thread)
		wait_for_it();
	else
		put_own();
}

/* Somebody else took it when the waiter wanted to: it has to try again. */
static void take_beside(void)
{
	if (look_into())
		put_beside();
	else if (!rude && u32_load_seq_cst(&waiters))
		wake();
}

static void put_or_wait_or_take(unsigned thread)
{
	if (thread == 2)
		take_beside();
	else
		put_once(thread);
}

#define WAIT_TWINS                                                             \
	EXPLORE_TWIN_SWITCH("waiters looked at before leaving", throw_hasty),  \
	EXPLORE_TWIN("no look at waiters", SKIP, "anybody_waits", "load"),     \
	EXPLORE_TWIN_SWITCH("counted in after the look", throw_late),          \
	EXPLORE_TWIN("relaxed leave", RELAX, "section_leave", NULL)

static const struct explore_twin wait_twins[] = {
	WAIT_TWINS,
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	{ .name = NULL },
};

static const struct explore_twin go_on_twins[] = {
	EXPLORE_TWIN_SWITCH("waiters not looked at again", throw_mute),
	{ .name = NULL },
};

static const struct explore_twin beside_twins[] = {
	WAIT_TWINS,
	EXPLORE_TWIN_SWITCH("nobody woken when given back", throw_rude),
	EXPLORE_TWIN("given back: relaxed store", RELAX, "look_into", "store"),
	{ .name = NULL },
};

const struct explore_scenario explore_section[] = {
	{ .name = "section: use against two that take", .threads = 3,
	  .setup = begin, .body = use_or_take, .post = all_is_there,
	  .twins = take_twins },
	{ .name = "section: use against a refused take", .threads = 2,
	  .setup = begin_refused, .body = use_or_take, .post = all_is_there,
	  .twins = take_refused_twins },
	{ .name = "section: change against two claims", .threads = 3,
	  .setup = begin_claim, .body = change_or_claim, .post = one_has_won,
	  .twins = claim_twins },
	{ .name = "section: put against sleep", .threads = 2,
	  .setup = begin_wait, .body = put_once, .twins = wait_twins },
	{ .name = "section: put and go on against sleep", .threads = 2,
	  .setup = begin_wait, .body = put_or_wait, .twins = go_on_twins },
	{ .name = "section: put against sleep and take", .threads = 3,
	  .setup = begin_wait, .body = put_or_wait_or_take,
	  .twins = beside_twins },
	{ .name = NULL },
};
