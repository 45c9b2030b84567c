// The results of a host's session.

const STEP_LIMIT = 5_000;

export class Report {
  steps = {};

  /** Records `ok` or the error of one step; never throws. */
  step = async (name, body) => {
    let timer;
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no end after ${STEP_LIMIT} ms`)), STEP_LIMIT);
    });
    try {
      await Promise.race([body(), limit]);
      this.steps[name] = "ok";
    } catch (error) {
      this.steps[name] = error?.message ?? String(error);
    }
    clearTimeout(timer);
  };

  says = (text, ...wanted) => {
    for (const part of wanted) {
      if (part instanceof RegExp ? !part.test(text) : !text?.includes(part)) throw new Error(`no ${part} in ${text}`);
    }
  };

  failed(error) {
    this.error = error?.message ?? String(error);
  }

  print() {
    console.log(JSON.stringify(this));
  }
}
