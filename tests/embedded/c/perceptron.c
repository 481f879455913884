#include "perceptron.h"

#include <string.h>

static void fill(float *numbers, int count, float bound, random_source *random) {
    for (int i = 0; i < count; i++) numbers[i] = bound * random_uniform(random);
}

void perceptron_start(perceptron *model, random_source *random) {
    memset(model, 0, sizeof *model);
    fill(model->hidden, HIDDEN * PIXELS, 0.3f, random);
    fill(model->output, CLASSES * HIDDEN, 0.4f, random);
}

/* e^x for x <= 0, to about 2 units in the last place: a polynomial, so that no mathematics library can make a difference. */
static float exponential(float x) {
    if (x < -87.0f) return 0;
    const int32_t exponent = (int32_t)(x * 1.44269504088896340736f - 0.5f);
    const float n = (float)exponent, r = x - n * 0.6933594f + n * 0.00021219444f;
    const float series = 1 + r * (1 + r * (0.5f + r * (0.16666667f + r * (0.041666667f + r * (0.008333334f + r * 0.001388889f)))));
    const uint32_t bits = (uint32_t)(exponent + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return series * power;
}

static void forward(const perceptron *model, const image *image, float inputs[PIXELS], float hidden[HIDDEN], float outputs[CLASSES]) {
    for (int i = 0; i < PIXELS; i++) inputs[i] = image->pixels[i] / 16.0f;
    for (int unit = 0; unit < HIDDEN; unit++) {
        float sum = model->hidden_bias[unit];
        for (int i = 0; i < PIXELS; i++) sum += model->hidden[unit * PIXELS + i] * inputs[i];
        hidden[unit] = sum < 0 ? 0 : sum;
    }
    for (int class = 0; class < CLASSES; class++) {
        float sum = model->output_bias[class];
        for (int unit = 0; unit < HIDDEN; unit++) sum += model->output[class * HIDDEN + unit] * hidden[unit];
        outputs[class] = sum;
    }
}

static int largest(const float outputs[CLASSES]) {
    int best = 0;
    for (int class = 1; class < CLASSES; class++) {
        if (outputs[class] > outputs[best]) best = class;
    }
    return best;
}

/* Replaces the outputs by the gradient of the cross entropy with respect to them, times `scale`. */
static void differentiate_loss(float outputs[CLASSES], int label, float scale) {
    const float most = outputs[largest(outputs)];
    float sum = 0;
    for (int class = 0; class < CLASSES; class++) {
        outputs[class] = exponential(outputs[class] - most);
        sum += outputs[class];
    }
    for (int class = 0; class < CLASSES; class++) outputs[class] = (outputs[class] / sum - (class == label)) * scale;
}

static void add_gradient(const perceptron *model, perceptron *gradient, const image *image, float scale) {
    float inputs[PIXELS], hidden[HIDDEN], errors[CLASSES], hidden_errors[HIDDEN] = {0};
    forward(model, image, inputs, hidden, errors);
    differentiate_loss(errors, image->label, scale);
    for (int class = 0; class < CLASSES; class++) {
        gradient->output_bias[class] += errors[class];
        for (int unit = 0; unit < HIDDEN; unit++) {
            gradient->output[class * HIDDEN + unit] += errors[class] * hidden[unit];
            hidden_errors[unit] += errors[class] * model->output[class * HIDDEN + unit];
        }
    }
    for (int unit = 0; unit < HIDDEN; unit++) {
        if (hidden[unit] <= 0) continue;
        gradient->hidden_bias[unit] += hidden_errors[unit];
        for (int i = 0; i < PIXELS; i++) gradient->hidden[unit * PIXELS + i] += hidden_errors[unit] * inputs[i];
    }
}

void perceptron_differentiate(const perceptron *model, perceptron *gradient, uint32_t batch, random_source *random) {
    memset(gradient, 0, sizeof *gradient);
    for (uint32_t i = 0; i < batch; i++) {
        add_gradient(model, gradient, &images[random_below(random, TRAINING_IMAGES)], 1.0f / (float)batch);
    }
}

uint32_t perceptron_correct(const perceptron *model) {
    uint32_t correct = 0;
    for (int i = TRAINING_IMAGES; i < TRAINING_IMAGES + TEST_IMAGES; i++) {
        float inputs[PIXELS], hidden[HIDDEN], outputs[CLASSES];
        forward(model, &images[i], inputs, hidden, outputs);
        correct += largest(outputs) == images[i].label;
    }
    return correct;
}
