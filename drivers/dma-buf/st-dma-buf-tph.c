// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of TLP Processing Hints of dma-bufs
 */
#include <kunit/test.h>
#include <linux/debug_locks.h>
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/module.h>

#define UNTOUCHED_ST	0xa5a5
#define UNTOUCHED_PH	0xa5

struct tph_test {
	struct dma_resv resv;
	struct dma_buf_ops ops;
	struct dma_buf dmabuf;
	struct dma_buf_attachment attach;

	/* What the exporter answers, and what it has been asked */
	int ret;
	u16 give_st;
	u16 give_st_ext;
	u8 give_ph;
	unsigned int calls;
	struct dma_buf_attachment *asked_attach;
	bool asked_extended;

	/* What comes back */
	u16 st;
	u8 ph;
};

static int tph_test_get_tph(struct dma_buf_attachment *attach, bool extended,
			    u16 *steering_tag, u8 *ph)
{
	struct tph_test *t = attach->dmabuf->priv;

	t->calls++;
	t->asked_attach = attach;
	t->asked_extended = extended;
	if (t->ret)
		return t->ret;

	*steering_tag = extended ? t->give_st_ext : t->give_st;
	*ph = t->give_ph;
	return 0;
}

static int tph_test_ask(struct tph_test *t, bool extended)
{
	t->st = UNTOUCHED_ST;
	t->ph = UNTOUCHED_PH;

	return dma_buf_get_tph(&t->attach, extended, &t->st, &t->ph);
}

static void tph_test_expect_untouched(struct kunit *test)
{
	struct tph_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, t->st, UNTOUCHED_ST);
	KUNIT_EXPECT_EQ(test, t->ph, UNTOUCHED_PH);
}

static void test_no_callback(struct kunit *test)
{
	struct tph_test *t = test->priv;

	t->ops.get_tph = NULL;

	dma_resv_lock(&t->resv, NULL);
	KUNIT_EXPECT_EQ(test, tph_test_ask(t, false), -EOPNOTSUPP);
	tph_test_expect_untouched(test);
	KUNIT_EXPECT_EQ(test, tph_test_ask(t, true), -EOPNOTSUPP);
	tph_test_expect_untouched(test);
	dma_resv_unlock(&t->resv);
}

static void test_answer(struct kunit *test)
{
	struct tph_test *t = test->priv;

	dma_resv_lock(&t->resv, NULL);
	KUNIT_EXPECT_EQ(test, tph_test_ask(t, false), 0);
	KUNIT_EXPECT_PTR_EQ(test, t->asked_attach, &t->attach);
	KUNIT_EXPECT_FALSE(test, t->asked_extended);
	KUNIT_EXPECT_EQ(test, t->st, 0xf0);
	KUNIT_EXPECT_EQ(test, t->ph, 2);

	KUNIT_EXPECT_EQ(test, tph_test_ask(t, true), 0);
	KUNIT_EXPECT_PTR_EQ(test, t->asked_attach, &t->attach);
	KUNIT_EXPECT_TRUE(test, t->asked_extended);
	KUNIT_EXPECT_EQ(test, t->st, 0x1234);
	KUNIT_EXPECT_EQ(test, t->ph, 2);
	dma_resv_unlock(&t->resv);

	KUNIT_EXPECT_EQ(test, t->calls, 2);
}

/* The errors are the exporter's. */
static void test_error(struct kunit *test)
{
	struct tph_test *t = test->priv;

	dma_resv_lock(&t->resv, NULL);
	t->ret = -EOPNOTSUPP;
	KUNIT_EXPECT_EQ(test, tph_test_ask(t, true), -EOPNOTSUPP);
	tph_test_expect_untouched(test);
	t->ret = -ENODEV;
	KUNIT_EXPECT_EQ(test, tph_test_ask(t, false), -ENODEV);
	tph_test_expect_untouched(test);
	dma_resv_unlock(&t->resv);

	KUNIT_EXPECT_EQ(test, t->calls, 2);
}

/* What no request can carry does not get through. */
static void test_invalid(struct kunit *test)
{
	struct tph_test *t = test->priv;

	dma_resv_lock(&t->resv, NULL);
	t->give_st = 0xff;
	t->give_st_ext = 0xffff;
	t->give_ph = 3;
	KUNIT_EXPECT_EQ(test, tph_test_ask(t, false), 0);
	KUNIT_EXPECT_EQ(test, t->st, 0xff);
	KUNIT_EXPECT_EQ(test, t->ph, 3);
	KUNIT_EXPECT_EQ(test, tph_test_ask(t, true), 0);
	KUNIT_EXPECT_EQ(test, t->st, 0xffff);
	KUNIT_EXPECT_EQ(test, t->ph, 3);

	/* With CONFIG_DMABUF_DEBUG there is a warning */
	kunit_warning_suppress(test) {
		t->give_st = 0x100;
		KUNIT_EXPECT_EQ(test, tph_test_ask(t, false), -EINVAL);
		tph_test_expect_untouched(test);
		KUNIT_EXPECT_EQ(test, tph_test_ask(t, true), 0);

		t->give_st = 0xff;
		t->give_ph = 4;
		KUNIT_EXPECT_EQ(test, tph_test_ask(t, false), -EINVAL);
		tph_test_expect_untouched(test);
		KUNIT_EXPECT_EQ(test, tph_test_ask(t, true), -EINVAL);
		tph_test_expect_untouched(test);
	}
	dma_resv_unlock(&t->resv);
}

static void test_lock(struct kunit *test)
{
	struct tph_test *t = test->priv;

	if (!IS_ENABLED(CONFIG_LOCKDEP) || !debug_locks)
		kunit_skip(test, "lockdep is off");

	kunit_warning_suppress(test) {
		tph_test_ask(t, false);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}

	/* Also where there is nothing to ask */
	t->ops.get_tph = NULL;
	kunit_warning_suppress(test) {
		tph_test_ask(t, false);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
}

static int tph_test_init(struct kunit *test)
{
	struct tph_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	if (!t)
		return -ENOMEM;

	dma_resv_init(&t->resv);
	t->give_st = 0xf0;
	t->give_st_ext = 0x1234;
	t->give_ph = 2;
	t->ops.get_tph = tph_test_get_tph;
	t->dmabuf.ops = &t->ops;
	t->dmabuf.resv = &t->resv;
	t->dmabuf.priv = t;
	t->attach.dmabuf = &t->dmabuf;
	test->priv = t;
	return 0;
}

static void tph_test_exit(struct kunit *test)
{
	struct tph_test *t = test->priv;

	if (t)
		dma_resv_fini(&t->resv);
}

static struct kunit_case dma_buf_tph_cases[] = {
	KUNIT_CASE(test_no_callback),
	KUNIT_CASE(test_answer),
	KUNIT_CASE(test_error),
	KUNIT_CASE(test_invalid),
	KUNIT_CASE(test_lock),
	{}
};

static struct kunit_suite dma_buf_tph_test_suite = {
	.name = "dma-buf-tph",
	.init = tph_test_init,
	.exit = tph_test_exit,
	.test_cases = dma_buf_tph_cases,
};

kunit_test_suite(dma_buf_tph_test_suite);

MODULE_IMPORT_NS("DMA_BUF");
