/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/section.h: what is decided and what is refused when, (S1) and (S2) with
 * real threads, and that ThreadSanitizer sees what is passed on, so that it
 * reports planted faults.
 *
 * What is decided once for a process is tested in children, which can't use
 * cmocka's assertions: they print what is wrong and fail by their status.
 */
#define _GNU_SOURCE
#include "testing.h"

#include "fault_os.h"
#include "os.h"
#include "section.h"

enum { TAKERS = 2, TAKES = 200, TURNS = 20, BUSY = 256 };

#define REQUIRE(expr)                                                          \
	do {                                                                   \
		if (!(expr)) {                                                 \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__,     \
				#expr);                                        \
			_exit(1);                                              \
		}                                                              \
	} while (0)

static void expect_child(int (*fn)(void *ctx), void *ctx)
{
	assert_int_equal(run_in_child(fn, ctx), 0);
}

/* ------------------------------------------------------------ the decision */

/* Not in each emulator and container; then there are no sections. */
static bool has_barrier(void)
{
	return !os_membarrier_register() && !os_membarrier();
}

static void expect_with_barrier(int (*fn)(void *unused))
{
	if (!has_barrier())
		skip();
	expect_child(fn, NULL);
}

static int allowed(void *unused)
{
	bool has = has_barrier();

	(void)unused;
	errno = ENOTTY;
	REQUIRE(sections_begin() == has);
	/* It is not asked again. */
	fault_arm(FAULT_MEMBARRIER, 1, UINT64_MAX);
	REQUIRE(sections_begin() == has);
	REQUIRE(fault_disarm() == 0);
	REQUIRE(sections_barrier() == has);
	REQUIRE(errno == ENOTTY);
	return 0;
}

static void test_sections_where_there_is_a_barrier(void **state)
{
	(void)state;
	expect_child(allowed, NULL);
}

/* first: 1 the registration, 2 the barrier is refused.  What the kernel would
 * allow later is not asked. */
static int refused_at_start(void *first)
{
	fault_arm(FAULT_MEMBARRIER, *(const uint64_t *)first, 1);
	errno = ENOTTY;
	REQUIRE(!sections_begin());
	REQUIRE(fault_disarm() == 1);
	REQUIRE(!sections_begin());
	REQUIRE(errno == ENOTTY);
	return 0;
}

static void test_none_when_refused_at_start(void **state)
{
	uint64_t first = 1;

	(void)state;
	expect_child(refused_at_start, &first);
	first = 2;
	if (!has_barrier())
		skip();
	expect_child(refused_at_start, &first);
}

static int refused_later(void *unused)
{
	(void)unused;
	REQUIRE(sections_begin());
	REQUIRE(sections_barrier());
	errno = ENOTTY;
	fault_arm(FAULT_MEMBARRIER, 1, 2);
	REQUIRE(!sections_barrier());
	REQUIRE(!sections_barrier());
	REQUIRE(sections_barrier());
	REQUIRE(sections_begin());
	REQUIRE(errno == ENOTTY);
	return 0;
}

static void test_refused_later_is_told_each_time(void **state)
{
	(void)state;
	expect_with_barrier(refused_later);
}

/* --------------------------------------------------------------- one owner */

static int enter_and_leave(void *unused)
{
	struct section s = { { 0 } };

	(void)unused;
	REQUIRE(sections_begin());
	REQUIRE(section_is_left(&s));
	for (int i = 0; i < 3; i++) {
		section_enter(&s);
		REQUIRE(sections_barrier());
		REQUIRE(!section_is_left(&s));
		REQUIRE(!section_is_left(&s));
		section_leave(&s);
		REQUIRE(sections_barrier());
		REQUIRE(section_is_left(&s));
	}
	return 0;
}

static void test_entered_and_left(void **state)
{
	(void)state;
	expect_with_barrier(enter_and_leave);
}

/* ------------------------------------------------------------------ taking */

static struct {
	struct section section;
	struct atomic_u32 taken, takers;
	uint64_t stock;			/* of the owner, or who took it */
	uint64_t used, got[TAKERS];
} shop;

/* Threads that are told different numbers run at once, where they can. */
static void run_on(unsigned number)
{
	cpu_set_t all, one;

	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	number %= (unsigned)CPU_COUNT(&all);
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && number-- == 0)
			CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/* On one processor it would be inside most times that it is interrupted. */
static void give_way(uint32_t n)
{
	if (n % BUSY == 0)
		sched_yield();
}

static void *use_own(void *unused)
{
	uint32_t n = 0;

	(void)unused;
	run_on(0);
	/* relaxed: only says when to end */
	while (u32_load_relaxed(&shop.takers)) {
		section_enter(&shop.section);
		/* acquire <- take() */
		if (!u32_load_acquire(&shop.taken)) {
			shop.stock++;
			shop.used++;
		}
		section_leave(&shop.section);
		give_way(++n);
	}
	return NULL;
}

static bool take(void)
{
	uint32_t old = 0;
	bool mine;

	/* acquire <- take() of another */
	if (!u32_cas_strong_acquire(&shop.taken, &old, 1))
		return false;
	mine = sections_barrier() && section_is_left(&shop.section);
	if (mine)
		shop.stock++;
	/* release -> use_own(), take() */
	u32_store_release(&shop.taken, 0);
	return mine;
}

static void *take_often(void *got)
{
	run_on(1);
	while (*(uint64_t *)got < testing_rounds(TAKES))
		if (take())
			++*(uint64_t *)got;
		else
			sched_yield();
	/* seq_cst: no reason for a weaker one */
	u32_sub_seq_cst(&shop.takers, 1);
	return NULL;
}

static int use_against_take(void *unused)
{
	struct threads owner, takers;
	uint64_t sum = 0;

	(void)unused;
	REQUIRE(sections_begin());
	u32_store_relaxed(&shop.takers, TAKERS);
	threads_start(&owner, 1, use_own, NULL, 0);
	threads_start(&takers, TAKERS, take_often, shop.got,
		      sizeof(shop.got[0]));
	REQUIRE(threads_join(&takers) == 0 && threads_join(&owner) == 0);
	for (int i = 0; i < TAKERS; i++)
		sum += shop.got[i];
	REQUIRE(sum == TAKERS * testing_rounds(TAKES));
	REQUIRE(shop.stock == sum + shop.used);
	return 0;
}

static void test_own_use_against_taking(void **state)
{
	(void)state;
	expect_with_barrier(use_against_take);
}

/* The child's threads wait for its owner with the parent's registration. */
static int fork_and_take(void *unused)
{
	REQUIRE(sections_begin());
	REQUIRE(run_in_child(use_against_take, unused) == 0);
	REQUIRE(sections_barrier());
	return 0;
}

static void test_the_child_of_a_fork(void **state)
{
	(void)state;
	expect_with_barrier(fork_and_take);
}

/* ---------------------------------------------------------------- claiming */

enum { WORDS = 100000, AHEAD = 4, OUT = 1, CLAIMED = 1 << 30 };

/* The owner changes one word after the other; the claimer is about there. */
static struct {
	struct section section;
	struct atomic_u32 word[WORDS];	/* the owner's; odd: out */
	uint32_t wins[WORDS];		/* of who has won the word */
	struct atomic_u32 at;		/* the owner's place; WORDS: the end */
	struct atomic_u32 begun;
	unsigned claimed, lost;
} contest;

static bool is_out(uint32_t word)
{
	return (word & OUT) && !(word & CLAIMED);
}

static void change_own(uint32_t i)
{
	section_enter(&contest.section);
	/* relaxed: the section orders it */
	if (is_out(u32_load_relaxed(&contest.word[i]))) {
		u32_store_relaxed(&contest.word[i], OUT + 1);
		contest.wins[i]++;
	}
	section_leave(&contest.section);
}

static void *change_each(void *unused)
{
	(void)unused;
	run_on(0);
	/* relaxed: only says where it is, and when both are there */
	while (!u32_load_relaxed(&contest.begun))
		sched_yield();
	for (uint32_t i = 0; i < WORDS; i++) {
		change_own(i);
		u32_store_relaxed(&contest.at, i + 1);
		give_way(i);
	}
	return NULL;
}

/* False: the owner has won it, but what it did is not seen. */
static bool await_winner(uint32_t i)
{
	while (!sections_barrier() || !section_is_left(&contest.section))
		sched_yield();
	/* relaxed: the section orders it */
	if (u32_load_relaxed(&contest.word[i]) != (OUT | CLAIMED)) {
		contest.lost++;
		return contest.wins[i] == 1;
	}
	contest.wins[i]++;
	contest.claimed++;
	return true;
}

static bool claim(uint32_t i)
{
	uint32_t old = OUT;

	/* relaxed: the section orders it */
	if (u32_cas_strong_relaxed(&contest.word[i], &old, OUT | CLAIMED))
		return await_winner(i);
	sched_yield();
	return true;
}

static void *claim_some(void *unused)
{
	uint64_t random = 1;
	bool right = true;
	uint32_t at;

	(void)unused;
	run_on(1);
	u32_store_relaxed(&contest.begun, 1);
	do {
		at = u32_load_relaxed(&contest.at);
		at += (uint32_t)random_below(&random, AHEAD);
		right &= at >= WORDS || claim(at);
	} while (at < WORDS);
	return right ? NULL : &contest;
}

static int change_against_claim(void *unused)
{
	struct threads sides[2];

	(void)unused;
	REQUIRE(sections_begin());
	for (int i = 0; i < WORDS; i++)
		u32_store_relaxed(&contest.word[i], OUT);
	threads_start(&sides[0], 1, change_each, NULL, 0);
	threads_start(&sides[1], 1, claim_some, NULL, 0);
	REQUIRE(threads_join(&sides[0]) == 0);
	REQUIRE(threads_join(&sides[1]) == 0);
	for (int i = 0; i < WORDS; i++)
		REQUIRE(contest.wins[i] == 1);
	print_message("%u claimed, %u claimed too late of %d\n",
		      contest.claimed, contest.lost, WORDS);
	fflush(NULL);
	return 0;
}

static void test_own_change_against_claims(void **state)
{
	(void)state;
	expect_with_barrier(change_against_claim);
}

/* ---------------------------------------------------------- planted faults */

/*
 * Owner and taker have turns, by relaxed operations, which are no edges: what
 * is or is not reported is decided by the section and `taken` alone.
 */
enum fault {
	RIGHT,
	NO_LOOK_AT_SECTION,
	RELAXED_LOOK,
	RELAXED_LEAVE,
	NO_LOOK_AT_TAKEN,
	RELAXED_GIVING_BACK,
	FAULTS
};

struct planted {
	enum fault fault;
	FILE *report;
};

static struct atomic_u32 turn;		/* grows; odd: the taker's */
static enum fault planted;

static void await_turn(uint32_t number)
{
	/* relaxed: no edge */
	while (u32_load_relaxed(&turn) < number)
		sched_yield();
}

static void own_turn(void)
{
	section_enter(&shop.section);
	/* acquire <- taker_turn() */
	if (planted == NO_LOOK_AT_TAKEN || !u32_load_acquire(&shop.taken))
		shop.stock++;
	if (planted == RELAXED_LEAVE)
		u32_store_relaxed(&shop.section.inside, 0);
	else
		section_leave(&shop.section);
}

static bool looks_left(void)
{
	switch (planted) {
	case NO_LOOK_AT_SECTION:
		return true;
	case RELAXED_LOOK:
		return !u32_load_relaxed(&shop.section.inside);
	default:
		return section_is_left(&shop.section);
	}
}

static void taker_turn(void)
{
	uint32_t old = 0;

	/* acquire <- taker_turn() */
	if (u32_cas_strong_acquire(&shop.taken, &old, 1) &&
	    sections_barrier() && looks_left())
		shop.stock++;
	if (planted == RELAXED_GIVING_BACK)
		u32_store_relaxed(&shop.taken, 0);
	else
		u32_store_release(&shop.taken, 0); /* release -> own_turn() */
}

static void *have_turns(void *of_taker)
{
	uint32_t first = of_taker != NULL;

	for (uint32_t i = 0; i < TURNS; i++) {
		await_turn(2 * i + first);
		if (first)
			taker_turn();
		else
			own_turn();
		u32_add_relaxed(&turn, 1); /* relaxed: no edge */
	}
	await_turn(2 * TURNS);
	return NULL;
}

static int have_all_turns(void *ctx)
{
	const struct planted *p = ctx;
	pthread_t owner, taker;

	dup2(fileno(p->report), STDERR_FILENO);
	REQUIRE(sections_begin());
	planted = p->fault;
	REQUIRE(!pthread_create(&owner, NULL, have_turns, NULL));
	REQUIRE(!pthread_create(&taker, NULL, have_turns, &turn));
	pthread_join(owner, NULL);
	pthread_join(taker, NULL);
	REQUIRE(shop.stock == 2 * TURNS);
	return 0;
}

/* Also that each turn found what it had to, without ThreadSanitizer. */
static bool is_reported(enum fault fault)
{
	struct planted p = { fault, tmpfile() };
	char text[4096] = "";
	int status;

	assert_non_null(p.report);
	status = run_in_child(have_all_turns, &p);
	rewind(p.report);
	text[fread(text, 1, sizeof(text) - 1, p.report)] = '\0';
	fclose(p.report);
	if (status && !strstr(text, "data race"))
		fail_msg("ended with %d: %s", status, text);
	return status != 0;
}

static void test_planted_faults_are_reported(void **state)
{
#ifdef SEG_TSAN
	const bool seen = true;
#else
	const bool seen = false;
#endif

	(void)state;
	if (!has_barrier())
		skip();
	for (enum fault f = RIGHT; f < FAULTS; f++)
		if (is_reported(f) != (seen && f != RIGHT))
			fail_msg("fault %d: %s", (int)f,
				 f == RIGHT ? "reported" : "missed");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sections_where_there_is_a_barrier),
		cmocka_unit_test(test_none_when_refused_at_start),
		cmocka_unit_test(test_refused_later_is_told_each_time),
		cmocka_unit_test(test_entered_and_left),
		cmocka_unit_test(test_own_use_against_taking),
		cmocka_unit_test(test_the_child_of_a_fork),
		cmocka_unit_test(test_own_change_against_claims),
		cmocka_unit_test(test_planted_faults_are_reported),
	};

	return run_group(tests);
}
